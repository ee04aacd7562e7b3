package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"sync"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// asked bounds how many nodes are asked at once.
const asked = 64

// maxAnswer bounds what another node's answer may take of this one's memory,
// bytes: ten thousand containers are a third of it.
const maxAnswer = 64 << 20

// readAnswer reads another node's answer to its end.
func readAnswer(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("answers with more than %d MiB", maxAnswer>>20)
	}
	return data, err
}

// askAll sends a GET to all other nodes at once and hands each answer to each,
// one after the other. A node that is down, does not answer within downTime or
// cannot answer is returned; that it has not what was asked for is no failure.
func (s *server) askAll(ctx context.Context, target string, each func(p cluster.Peer, body io.Reader) error) []api.Missing {
	ctx, cancel := context.WithTimeout(ctx, downTime)
	defer cancel()
	var (
		mu      sync.Mutex
		missing []api.Missing // guarded by mu, as is each
		wg      sync.WaitGroup
		turns   = make(chan struct{}, asked)
	)
	for _, p := range s.Cluster.Peers() {
		if p.Down {
			mu.Lock()
			missing = append(missing, api.Missing{Node: p.ID, Hostname: p.Hostname, Reason: "down"})
			mu.Unlock()
			continue
		}
		wg.Add(1)
		turns <- struct{}{}
		go func() {
			defer func() { <-turns; wg.Done() }()
			err := s.askOne(ctx, p, target, func(body io.Reader) error {
				mu.Lock()
				defer mu.Unlock()
				return each(p, body)
			})
			if err != nil && !errors.Is(err, runtime.ErrNotFound) {
				mu.Lock()
				defer mu.Unlock()
				missing = append(missing, api.Missing{Node: p.ID, Hostname: p.Hostname, Reason: reasonOf(err)})
			}
		}()
	}
	wg.Wait()
	sort.Slice(missing, func(i, j int) bool { return missing[i].Node < missing[j].Node })
	return missing
}

// askOne reads the whole answer before it is handed on: each is not held up by a slow node.
func (s *server) askOne(ctx context.Context, p cluster.Peer, target string, each func(io.Reader) error) error {
	ctx, stop := s.whileUp(ctx, p.ID, false)
	defer stop(nil)
	body, err := s.open(ctx, p.ID, target)
	if err != nil && errors.Is(context.Cause(ctx), errNodeGone) {
		return errNodeGone // noticed meanwhile
	}
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it is only read
	data, err := readAnswer(body)
	if err != nil {
		return err
	}
	return each(newReader(data))
}

// reasonOf is why a node did not answer, in few words.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "does not answer"
	case errors.Is(err, errNodeGone):
		return "down"
	case errors.Is(err, cluster.ErrUnreachable):
		return "cannot be reached"
	}
	return err.Error()
}

// sayMissing tells the client which nodes a list leaves out.
func sayMissing(w http.ResponseWriter, missing []api.Missing) {
	if len(missing) == 0 {
		return
	}
	if data, err := json.Marshal(missing); err == nil { // plain data
		w.Header().Set(api.MissingHeader, string(data))
	}
}

// toNode passes a request to the node that its header names; done is false
// when that is this node, or none is named.
func (s *server) toNode(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	ref := r.Header.Get(api.NodeHeader)
	if ref == "" || s.Cluster == nil || forwarded(r) {
		return false, nil
	}
	if ref == "self" || ref == s.Cluster.Self() || ref == s.Facts.Hostname {
		return false, nil
	}
	p, err := s.peer(ref)
	if err != nil {
		return true, err
	}
	if isHijack(r) {
		return true, s.passStream(w, r, p.ID, passing{})
	}
	return true, s.pass(w, r, p.ID, passing{})
}

// peer finds another node by ID, hostname or unique beginning of its ID.
func (s *server) peer(ref string) (cluster.Peer, error) {
	var found []cluster.Peer
	for _, p := range s.Cluster.Peers() {
		if p.ID == ref || p.Hostname == ref {
			return p, nil
		}
		if len(ref) >= 2 && len(p.ID) > len(ref) && p.ID[:len(ref)] == ref {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return cluster.Peer{}, notFound("node %s not found", ref)
	}
	return cluster.Peer{}, invalid("node %s is ambiguous (%d matches found)", ref, len(found))
}
