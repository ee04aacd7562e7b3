package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// alone reports whether requests are answered here, wherever what they ask for is.
func (s *server) alone(r *http.Request) bool {
	return s.Cluster == nil || forwarded(r) || len(s.Cluster.Peers()) == 0
}

// place is a container on another node.
type place struct{ node, container string }

// elsewhere finds the node of a container that is not here; the zero place
// means that the request is ours, were it only to say that there is no such container.
func (s *server) elsewhere(r *http.Request, ref string) (place, error) {
	if s.alone(r) {
		return place{}, nil
	}
	if _, err := s.Engine.Inspect(r.Context(), ref); !errors.Is(err, runtime.ErrNotFound) {
		return place{}, nil //nolint:nilerr // the handler meets it again
	}
	ctx := context.WithoutCancel(r.Context()) // a client that has sent all its input is still there
	at, found := s.locate(ctx, ref)
	if found && at.Container != "" {
		if at.Node == s.Cluster.Self() {
			return place{}, nil
		}
		return place{node: at.Node, container: at.Container}, nil
	}
	return s.search(ctx, "/containers/"+url.PathEscape(ref)+"/json", "No such container: "+ref)
}

// locate asks the cluster's state: this node's copy, or the leader's.
func (s *server) locate(ctx context.Context, ref string) (cluster.Location, bool) {
	if at, found := s.Cluster.Locate(ref); found {
		return at, true
	}
	leader, known := s.Cluster.Leader()
	if !known || leader == s.Cluster.Self() {
		return cluster.Location{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, downTime)
	defer cancel()
	var at api.Location
	if err := s.fetch(ctx, leader, "/dhow/v1/locate?ref="+url.QueryEscape(ref), &at); err != nil {
		return cluster.Location{}, false // not a task's, or the nodes are asked themselves
	}
	return cluster.Location{Node: at.Node, Container: at.Container, Name: at.Name, Task: at.Task}, true
}

// search asks all nodes for something that no state knows of, such as a
// container made by hand. A node that does not answer cannot have it found.
func (s *server) search(ctx context.Context, path, missing string) (place, error) {
	found := place{}
	left := s.askAll(ctx, path, func(p cluster.Peer, body io.Reader) error {
		var it struct{ ID string }
		if err := json.NewDecoder(body).Decode(&it); err != nil {
			return err
		}
		if found.node == "" {
			found = place{node: p.ID, container: it.ID}
		}
		return nil
	})
	if found.node != "" || len(left) == 0 {
		return found, nil
	}
	var names []string
	for _, m := range left {
		names = append(names, first(m.Hostname, m.Node))
	}
	return found, notFound("%s (not asked, as they do not answer: %s)", missing, strings.Join(names, ", "))
}

// fetch reads a JSON answer of another node.
func (s *server) fetch(ctx context.Context, node, target string, out any) error {
	body, err := s.open(ctx, node, target)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it is only read
	data, err := readAnswer(body)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}

// open is the body of another node's answer to a GET.
func (s *server) open(ctx context.Context, node, target string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://dhow"+target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.Cluster.Transport(node).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	if resp.StatusCode == http.StatusNotFound {
		return nil, notFound("%s", messageOf(resp))
	}
	return nil, fmt.Errorf("%s: %s", s.nameOf(node), messageOf(resp))
}

// passContainer sends a request about a container to the node that has it.
func (s *server) passContainer(w http.ResponseWriter, r *http.Request, at place) error {
	path := r.URL.Path
	if ref := r.PathValue("id"); at.container != "" {
		path = strings.Replace(path, "/"+ref, "/"+at.container, 1)
	}
	how := passing{path: path}
	switch {
	case strings.HasSuffix(path, "/attach"):
		return s.passStream(w, r, at.node, how)
	case strings.HasSuffix(path, "/exec"):
		how.inspect = func(data []byte) {
			var made container.ExecCreateResponse
			if json.Unmarshal(data, &made) == nil {
				s.execs.set(made.ID, at.node)
			}
		}
	}
	return s.pass(w, r, at.node, how)
}

// elsewhereExec finds the node of an exec that is not here.
func (s *server) elsewhereExec(r *http.Request, id string) (place, error) {
	if s.alone(r) {
		return place{}, nil
	}
	if node := s.execs.get(id); node != "" {
		return place{node: node}, nil
	}
	if _, err := s.Engine.ExecInspect(r.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		return place{}, nil //nolint:nilerr // the handler meets it again
	}
	at, err := s.search(context.WithoutCancel(r.Context()), "/exec/"+url.PathEscape(id)+"/json", "No such exec instance: "+id)
	at.container = ""
	return at, err
}

func (s *server) passExec(w http.ResponseWriter, r *http.Request, node string) error {
	if strings.HasSuffix(r.URL.Path, "/start") {
		return s.passStream(w, r, node, passing{})
	}
	return s.pass(w, r, node, passing{})
}

// userOf is the container that a body {"Container": ref} names; "" when it names
// none or is not such a body.
func userOf(body []byte) string {
	var req struct{ Container string }
	if err := json.Unmarshal(bytes.TrimSpace(body), &req); err != nil {
		return ""
	}
	return req.Container
}

// passUser sends a request that names a container in its body, {"Container": ref},
// to the node that has it; done is false when that is this one, and r's body is as it was.
func (s *server) passUser(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	if s.alone(r) {
		return false, nil
	}
	body, err := keepBody(r)
	if err != nil {
		return true, err
	}
	r.Body = body.reader()
	ref := userOf(body.data)
	if ref == "" {
		return false, nil // the handler says what is wrong with it
	}
	at, err := s.elsewhere(r, ref)
	if err != nil {
		return true, err
	}
	if at.node == "" {
		return false, nil
	}
	return true, s.pass(w, r, at.node, passing{body: body})
}
