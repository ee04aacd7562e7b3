package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// leaderPatience is how long a request waits for a leader before it fails: an
// election takes about a second, so that a lost leader goes unnoticed.
const leaderPatience = 5 * time.Second

// leaderPause is between two attempts when nothing says that the leader has changed.
const leaderPause = 100 * time.Millisecond

// repeat says what may be done when it is not known whether a request has been
// carried out.
type repeat int

const (
	once  repeat = iota // doing it twice is something else
	again               // doing it twice is doing it once
	read                // nothing is changed
)

// forwardPrefix stands before the API's paths on the port between nodes.
const forwardPrefix = "/forward"

type forwardedKey struct{}

// Forwarded serves what other nodes pass on: h, which New made, under /forward.
// peer tells which node asks, from its certificate: any node of the cluster may
// pass requests on, and nobody else. What comes in this way is marked by its
// way, not by what it says, and is never passed on a second time.
func Forwarded(h http.Handler, peer func(*http.Request) (node string, known bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, known := peer(r)
		path, under := strings.CutPrefix(r.URL.Path, forwardPrefix)
		if !known || !under || !strings.HasPrefix(path, "/") {
			writeJSON(w, http.StatusForbidden, api.Error{Message: "this node is not one that may ask others; ask a manager (dhow swarm update --worker-requests)"})
			return
		}
		r2 := r.Clone(context.WithValue(r.Context(), forwardedKey{}, node))
		r2.URL.Path, r2.URL.RawPath = path, strings.TrimPrefix(r.URL.RawPath, forwardPrefix)
		h.ServeHTTP(w, r2)
	})
}

// forwarded reports whether another node has passed r on.
func forwarded(r *http.Request) bool { return r.Context().Value(forwardedKey{}) != nil }

// onLeader registers a handler of the cluster's state: it runs on the node that leads.
func (s *server) onLeader(pattern string, rep repeat, h handler) {
	s.handle(pattern, s.leading(rep, h))
}

// leading makes h run on the node that leads, wherever a request arrives.
func (s *server) leading(rep repeat, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster == nil {
			return h(w, r)
		}
		if rep == read {
			stale, err := wantsStale(r)
			if err != nil {
				return err
			}
			if stale {
				return s.readStale(w, r, h)
			}
		}
		if forwarded(r) {
			return s.leadForwarded(w, r, rep, h)
		}
		return s.lead(w, r, rep, h)
	}
}

func wantsStale(r *http.Request) (bool, error) {
	switch c := r.URL.Query().Get("consistency"); c {
	case "", "consistent":
		return false, nil
	case "stale":
		return true, nil
	default:
		return false, invalid("consistency: %q is neither consistent nor stale", c)
	}
}

// lead runs h here when this node leads and passes the request on otherwise.
// While there is no leader, or the one that was asked turns out to be none any
// more, it waits and asks again.
func (s *server) lead(w http.ResponseWriter, r *http.Request, rep repeat, h handler) error {
	body, err := keepBody(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), leaderPatience)
	defer cancel()
	maybe := false // an attempt before may have done it
	for {
		changed := s.Cluster.LeaderChanged()
		err := s.leadOnce(w, r, body, rep, h, maybe)
		retry, unknown := undone(err, rep)
		if err == nil || begun(w) || !retry || !body.whole || !wait(ctx, changed) {
			if maybe && retry && !unknown && rep != read { // it was not done this time
				err = say(cluster.ErrLeaderLost, "%v", err)
			}
			return toLookAt(err)
		}
		maybe = maybe || unknown
	}
}

// toLookAt says what to do when nobody knows whether a request has been carried out.
func toLookAt(err error) error {
	if !errors.Is(err, cluster.ErrLeaderLost) {
		return err
	}
	return fmt.Errorf("%w; look whether it has been done before you try again", err)
}

func (s *server) leadOnce(w http.ResponseWriter, r *http.Request, body *kept, rep repeat, h handler, maybe bool) error {
	leader, known := s.Cluster.Leader()
	local := s.Cluster.Local()
	switch {
	case local.State == cluster.Broken && !known:
		return say(cluster.ErrInSwarm, "%s", local.Error)
	case !known:
		return s.noLeader(local)
	case leader != s.Cluster.Self():
		return s.pass(w, r, leader, passing{body: body, toLeader: true, maybe: maybe, inspect: s.settle(r)})
	}
	err := s.leadHere(w, body.request(r), rep, h)
	if maybe && r.Method == http.MethodDelete && errors.Is(err, runtime.ErrNotFound) {
		return noContent(w, nil) // the attempt before has done it
	}
	return err
}

// noLeader says what it takes to have a leader. Others may have one: a node that
// is cut off from it alone cannot tell.
func (s *server) noLeader(local cluster.LocalStatus) error {
	return fmt.Errorf("no manager leads the cluster, as far as this node hears: a majority of its managers (%s) has to be up and connected. "+
		"Another node may hear more: ask there, and look at this one's network. "+
		"If most of them are lost for good, `dhow swarm init --force-new-cluster` on one that is left goes on with what it has; "+
		"--stale reads what the nearest manager has: %w", s.managersByName(local), cluster.ErrNotLeader)
}

// managersByName lists the managers, and which are down.
func (s *server) managersByName(local cluster.LocalStatus) string {
	var names []string
	if local.Manager {
		names = append(names, s.Facts.Hostname)
	}
	for _, p := range local.Managers {
		name := p.Hostname
		if name == "" {
			name = p.ID
		}
		if p.Down {
			name += " (down)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// settle is for requests whose effect the next one on this node counts on: it
// holds the answer back until this node has heard of it from the leader.
func (s *server) settle(r *http.Request) func([]byte) {
	if r.Method != http.MethodPost || r.URL.Path != "/networks/create" {
		return nil
	}
	return func(answer []byte) {
		var made network.CreateResponse
		if json.Unmarshal(answer, &made) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), downTime)
		defer cancel()
		for {
			if _, here := s.Networks.Network(made.ID); here || !wait(ctx, nil) {
				return
			}
		}
	}
}

// undone reports whether the request that ended with err may be sent again,
// and whether it may have been carried out all the same.
func undone(err error, rep repeat) (retry, unknown bool) {
	switch {
	case errors.Is(err, cluster.ErrLeaderLost):
		return rep != once, true
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, runtime.ErrUnavailable):
		return true, false
	}
	return false, false
}

func begun(w http.ResponseWriter) bool {
	t, ok := w.(*tracker)
	return ok && t.begun
}

// wait returns at the next change or after a moment; false when ctx is over first.
func wait(ctx context.Context, changed <-chan struct{}) bool {
	if ctx.Err() != nil { // also when both have come
		return false
	}
	timer := time.NewTimer(leaderPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// leadHere runs h on this node, which leads.
func (s *server) leadHere(w http.ResponseWriter, r *http.Request, rep repeat, h handler) error {
	if rep == read {
		if err := s.Cluster.Verify(r.Context()); err != nil {
			return err
		}
	}
	s.sayConsistency(w, "consistent")
	return h(w, r)
}

// leadForwarded answers a request that another node took for ours. When it is
// not, that node asks on: it knows whom.
func (s *server) leadForwarded(w http.ResponseWriter, r *http.Request, rep repeat, h handler) error {
	leader, known := s.Cluster.Leader()
	err := fmt.Errorf("node %s: %w", s.Cluster.Self(), cluster.ErrNotLeader)
	if known && leader == s.Cluster.Self() {
		err = s.leadHere(w, r, rep, h)
	}
	switch retry, unknown := undone(err, once); {
	case begun(w):
	case unknown:
		w.Header().Set(api.OutcomeHeader, api.OutcomeUnknown)
	case retry:
		w.Header().Set(api.OutcomeHeader, api.OutcomeNone)
	}
	return err
}

// readStale answers from this node's copy of the state, or if it has none from a manager's.
func (s *server) readStale(w http.ResponseWriter, r *http.Request, h handler) error {
	if s.Cluster.Local().Manager {
		s.sayConsistency(w, "stale")
		return h(w, r)
	}
	if forwarded(r) {
		return fmt.Errorf("node %s is no manager: %w", s.Cluster.Self(), cluster.ErrNotLeader)
	}
	body, err := keepBody(r)
	if err != nil {
		return err
	}
	err = fmt.Errorf("no manager is known: %w", cluster.ErrUnreachable)
	for _, m := range s.managers() {
		if err = s.pass(w, r, m, passing{body: body}); err == nil || begun(w) {
			return err
		}
	}
	return err
}

// managers are the IDs of the managers other than this node, those that are up first.
func (s *server) managers() []string {
	var up, down []string
	for _, p := range s.Cluster.Peers() {
		switch {
		case p.Role == "worker":
		case p.Down:
			down = append(down, p.ID)
		default:
			up = append(up, p.ID)
		}
	}
	return append(up, down...)
}

// sayConsistency tells of what state the answer is.
func (s *server) sayConsistency(w http.ResponseWriter, kind string) {
	h := w.Header()
	h.Set(api.ConsistencyHeader, kind)
	h.Set(api.IndexHeader, strconv.FormatUint(s.Cluster.Index(), 10))
	if leader, known := s.Cluster.Leader(); known {
		h.Set(api.LeaderHeader, leader)
	} else {
		h.Del(api.LeaderHeader)
	}
}
