package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// A volume is on one node, wherever it is asked for. A name that is here means
// the volume here; else the one of the only other node that has it.

// holders are the other nodes that have a volume, and those that did not say.
func (s *server) holders(ctx context.Context, name string) (nodes []cluster.Peer, missing []api.Missing) {
	missing = s.askAll(ctx, "/volumes/"+url.PathEscape(name), func(p cluster.Peer, _ io.Reader) error {
		nodes = append(nodes, p)
		return nil
	})
	return nodes, missing
}

// volumeAway finds the node of a volume that is not here; "" means that the request is ours.
func (s *server) volumeAway(r *http.Request, name string) (string, error) {
	if s.alone(r) {
		return "", nil
	}
	if _, err := s.Volumes.Inspect(r.Context(), name); !errors.Is(err, runtime.ErrNotFound) {
		return "", nil //nolint:nilerr // the handler meets it again
	}
	nodes, missing := s.holders(r.Context(), name)
	switch {
	case len(nodes) == 1:
		return nodes[0].ID, nil
	case len(nodes) > 1:
		return "", fmt.Errorf("volume %s is on several nodes: %s; say which one: %w", name, hosts(nodes), runtime.ErrConflict)
	case len(missing) > 0:
		return "", &unheard{name, missing}
	}
	return "", nil
}

// unheard is the error of a volume that no node has that answers.
type unheard struct {
	name    string
	missing []api.Missing
}

func (e *unheard) Error() string {
	var names []string
	for _, m := range e.missing {
		names = append(names, first(m.Hostname, m.Node)+" ("+m.Reason+")")
	}
	return fmt.Sprintf("get %s: no node that answers has such a volume; not asked: %s", e.name, strings.Join(names, ", "))
}

func (e *unheard) Unwrap() error { return runtime.ErrNotFound }

func hosts(nodes []cluster.Peer) string {
	var names []string
	for _, p := range nodes {
		names = append(names, first(p.Hostname, p.ID))
	}
	return strings.Join(names, ", ")
}

// removeVolumeAway removes a volume where it is, and what the cluster remembers
// of its place; done is false when it is to be removed here.
func (s *server) removeVolumeAway(w http.ResponseWriter, r *http.Request, name string, force bool) (done bool, err error) {
	node, err := s.volumeAway(r, name)
	var lost *unheard
	switch {
	case errors.As(err, &lost) && force: // its node may be gone for good: what needs it may start anew elsewhere
		return true, noContent(w, s.forget(r.Context(), name))
	case lost != nil:
		return true, fmt.Errorf("%w; --force forgets where it is, and lets it be made anew on another node", err)
	case err != nil || node == "":
		return err != nil, err
	}
	if err := s.tell(r.Context(), node, "/volumes/"+url.PathEscape(name)); err != nil {
		return true, err
	}
	return true, noContent(w, s.forget(r.Context(), name))
}

// removeVolumeEverywhere removes the volume of this name of every node: those of
// a stack with a volume on each. Nodes that are down keep theirs.
func (s *server) removeVolumeEverywhere(w http.ResponseWriter, r *http.Request, name string, force bool) error {
	nodes, missing := s.holders(r.Context(), name)
	var errs []error
	for _, p := range nodes {
		errs = append(errs, s.tell(r.Context(), p.ID, "/volumes/"+url.PathEscape(name)))
	}
	err := s.Volumes.Remove(r.Context(), name, force)
	here := !errors.Is(err, runtime.ErrNotFound)
	if here {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	switch {
	case len(missing) > 0 && !force:
		if len(nodes) > 0 || here {
			return fmt.Errorf("removed, but for nodes that did not answer: %w", &unheard{name, missing})
		}
		return &unheard{name, missing}
	case len(nodes) == 0 && !here && !force:
		return noSuchVolume(name, runtime.ErrNotFound)
	}
	return noContent(w, s.forget(r.Context(), name))
}

// tell sends a DELETE to another node.
func (s *server) tell(ctx context.Context, node, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://dhow"+target, nil)
	if err != nil {
		return err
	}
	resp, err := s.Cluster.Transport(node).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: %w", s.nameOf(node), err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	switch {
	case resp.StatusCode < 300, resp.StatusCode == http.StatusNotFound:
		return nil
	case resp.StatusCode == http.StatusServiceUnavailable:
		return say(cluster.ErrNotLeader, "%s", messageOf(resp))
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("%s: %s: %w", s.nameOf(node), messageOf(resp), runtime.ErrConflict)
	}
	return fmt.Errorf("%s: %s", s.nameOf(node), messageOf(resp))
}

// forget has the leader forget on which node a volume was.
func (s *server) forget(ctx context.Context, name string) error {
	if s.Cluster == nil || s.Stacks == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaderPatience)
	defer cancel()
	for {
		changed := s.Cluster.LeaderChanged()
		err := fmt.Errorf("no manager leads: %w", cluster.ErrNotLeader)
		if leader, known := s.Cluster.Leader(); known && leader == s.Cluster.Self() {
			err = s.Stacks.ForgetVolume(ctx, name)
		} else if known {
			err = s.tell(ctx, leader, "/dhow/v1/volumes/"+url.PathEscape(name)+"/node")
		}
		if err == nil || !wait(ctx, changed) {
			return err
		}
	}
}

// forgetVolume is what forget asks of the leader.
func (s *server) forgetVolume(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.Stacks.ForgetVolume(r.Context(), r.PathValue("name")))
}
