package dispatch

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// reign is the time that a manager leads: all its sessions.
type reign struct {
	server *Server
	core   Core
	began  time.Time

	topics *topics

	spreading sync.Mutex // held from asking what changed until that is posted: the older answer must not be posted last

	beats chan struct{}  // capacity 1: there are heartbeats to acknowledge
	work  sync.WaitGroup // sessions

	mu     sync.Mutex
	nodes  map[string]*visitor // guarded by mu
	due    map[*session]heard  // guarded by mu: heartbeats to acknowledge, the last of each session
	board  *board              // guarded by mu
	index  uint64              // guarded by mu: state that sessions were last told of
	ended  bool                // guarded by mu
	ticked time.Time           // guarded by mu: when run last looked
	woke   time.Time           // guarded by mu: when this process last went on after it had stood still
}

// visitor is what a reign knows of a node.
type visitor struct {
	session     *session // nil: not connected
	heard, ends time.Time
	expired     bool // its end was told
	description Description
}

// heard is a heartbeat that has arrived.
type heard struct {
	session *session
	seq     uint64
	at      time.Time
}

func newReign(s *Server, core Core) *reign {
	now := time.Now()
	return &reign{
		server: s, core: core, began: now, ticked: now, topics: newTopics(core),
		beats: make(chan struct{}, 1), nodes: map[string]*visitor{}, due: map[*session]heard{}, board: newBoard(),
	}
}

// run tells the sessions what changes until ctx ends.
func (r *reign) run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { r.acknowledge(ctx) })
	defer loops.Wait()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		changed := r.core.Changed()
		if err := r.spread(); err != nil {
			r.server.log.Error("tell nodes what changed", "error", err)
		}
		for wait := true; wait; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-changed:
				wait = false
			case <-tick.C:
				r.look(time.Now())
			}
		}
	}
}

// tickEvery is how often leases are looked at.
const tickEvery = 250 * time.Millisecond

// spread posts what changed, and wakes the sessions that it concerns, and only those.
func (r *reign) spread() error {
	r.spreading.Lock()
	defer r.spreading.Unlock()
	return r.spreadSince(r.posted())
}

// catchUp posts changes that spread has not come to, up to an index: who was
// given tasks of a state needs the networks and names of that state.
func (r *reign) catchUp(index uint64) error {
	r.spreading.Lock()
	defer r.spreading.Unlock()
	if since := r.posted(); since < index {
		return r.spreadSince(since)
	}
	return nil
}

// posted is the index of the state that the boards are of, or older than they are.
func (r *reign) posted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index
}

// spreadSince posts the changes after an index; spreading is held.
func (r *reign) spreadSince(since uint64) error {
	t := r.core.Touched(since)
	// First, so that who is told of a task is told of the names that it knows too.
	told, err := r.topics.spread(t)
	if err != nil {
		return fmt.Errorf("directories: %w", err)
	}
	var view *View
	if t.All || t.View || since == 0 {
		v := r.core.View()
		view = &v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index = t.Index
	posted := false
	for topic, readers := range told {
		for _, s := range readers {
			s.touchTopic(topic)
		}
	}
	if view != nil {
		if posted, err = r.board.post(*view); err != nil {
			return fmt.Errorf("view of the cluster: %w", err)
		}
	}
	if t.All || posted {
		for _, v := range r.nodes {
			switch {
			case v.session == nil:
			case t.All:
				v.session.touch(true, nil)
			default:
				v.session.touchBoard()
			}
		}
	}
	if t.All {
		return nil
	}
	for node, tasks := range t.Nodes {
		if v := r.nodes[node]; v != nil && v.session != nil {
			v.session.touch(tasks == nil, tasks)
		}
	}
	return nil
}

// look ends sessions that have fallen silent and tells of leases that ended.
func (r *reign) look(now time.Time) {
	r.mu.Lock()
	r.wakeLocked(now)
	var silent []*session
	told := false
	for _, v := range r.nodes {
		if _, ends := r.lastLocked(v); v.expired || now.Before(ends) {
			continue
		}
		v.expired, told = true, true
		if v.session != nil {
			silent = append(silent, v.session)
		}
	}
	r.mu.Unlock()
	for _, s := range silent {
		s.stop(&bye{Reason: "no heartbeat came"})
	}
	if told {
		r.server.poke()
	}
}

// wakeLocked notices that this process stood still: then heartbeats may be
// waiting unread, and every lease gets time for them to be heard.
func (r *reign) wakeLocked(now time.Time) {
	terms := r.termsLocked()
	if now.Sub(r.ticked) > max(terms.Beat, 4*tickEvery) {
		r.woke = now
		r.server.log.Warn("this process stood still", "for", now.Sub(r.ticked).Round(time.Millisecond))
	}
	r.ticked = now
}

// lastLocked is the last moment at which the node may have been heard, and
// when its lease is over for certain.
func (r *reign) lastLocked(v *visitor) (heard, ends time.Time) {
	heard, ends = v.heard, v.ends
	if !r.woke.After(heard) {
		return heard, ends
	}
	terms := r.termsLocked()
	if grace := r.woke.Add(terms.Lease + terms.margin()); grace.After(ends) {
		ends = grace
	}
	return r.woke, ends
}

// heard notes a heartbeat; the acknowledgement follows.
func (r *reign) heard(s *session, seq uint64) {
	r.mu.Lock()
	r.due[s] = heard{s, seq, time.Now()}
	r.mu.Unlock()
	r.pokeBeats()
}

func (r *reign) pokeBeats() {
	select {
	case r.beats <- struct{}{}:
	default:
	}
}

// gatherBeats is how long a heartbeat waits for others, that one look at the
// leadership may serve them all.
const (
	gatherBeats = 20 * time.Millisecond
	deferBeats  = 100 * time.Millisecond // after the leadership could not be verified
)

// acknowledge grants leases. It makes sure first that this manager still leads:
// one that was paused, or cut off, must not renew what its successor counts on ending.
func (r *reign) acknowledge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.beats:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gatherBeats):
		}
		r.mu.Lock()
		due := r.due
		r.due = map[*session]heard{}
		terms := r.termsLocked()
		r.mu.Unlock()
		if len(due) == 0 {
			continue
		}
		vctx, cancel := context.WithTimeout(ctx, terms.Lease)
		err := r.core.Verify(vctx)
		cancel()
		if err != nil {
			r.postpone(due)
			continue
		}
		r.grant(due, terms)
	}
}

// postpone keeps heartbeats for another try. If this manager does not lead any
// more, its Lead is about to end.
func (r *reign) postpone(due map[*session]heard) {
	r.mu.Lock()
	for s, h := range due {
		if _, newer := r.due[s]; !newer && r.nodes[s.node] != nil && r.nodes[s.node].session == s {
			r.due[s] = h
		}
	}
	r.mu.Unlock()
	time.AfterFunc(deferBeats, r.pokeBeats)
}

func (r *reign) grant(due map[*session]heard, terms Terms) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range due {
		v := r.nodes[h.session.node]
		if v == nil || v.session != h.session {
			continue
		}
		v.heard, v.ends, v.expired = h.at, h.at.Add(terms.Lease+terms.margin()), false
		h.session.ack(h.seq, terms)
	}
}

// enter makes s the session of its node; an older one ends.
func (r *reign) enter(s *session, d Description) bool {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return false
	}
	v := r.nodes[s.node]
	if v == nil {
		v = &visitor{}
		r.nodes[s.node] = v
	}
	old := v.session
	now, terms := time.Now(), r.termsLocked()
	v.session, v.description, v.heard, v.expired = s, d, now, false
	if end := now.Add(terms.Lease + terms.margin()); end.After(v.ends) {
		v.ends = end // it is to send its first heartbeat now
	}
	r.work.Add(1)
	r.mu.Unlock()
	if old != nil {
		old.stop(&bye{Reason: "the node has called again"})
	}
	r.server.poke()
	return true
}

func (r *reign) leave(s *session) {
	defer r.work.Done()
	r.mu.Lock()
	if v := r.nodes[s.node]; v != nil && v.session == s {
		v.session = nil
	}
	r.mu.Unlock()
	r.server.poke()
}

func (r *reign) describe(s *session, d Description) {
	r.mu.Lock()
	if v := r.nodes[s.node]; v != nil && v.session == s {
		v.description = d
	}
	r.mu.Unlock()
	r.server.poke()
}

func (r *reign) forget(node string) {
	r.mu.Lock()
	v := r.nodes[node]
	delete(r.nodes, node)
	r.mu.Unlock()
	if v != nil && v.session != nil {
		v.session.stop(&bye{Reason: "the node is no part of the cluster any more"})
	}
}

func (r *reign) recall(node string) {
	r.mu.Lock()
	var s *session
	if v := r.nodes[node]; v != nil {
		s = v.session
	}
	r.mu.Unlock()
	if s != nil {
		s.stop(&bye{Leader: r.server.cfg.Node, Reason: "the node was held for dead: it is to call again"})
	}
}

// end sends everybody to the leader and waits until they have gone.
func (r *reign) end(leader string) {
	r.mu.Lock()
	r.ended = true
	var open []*session
	for _, v := range r.nodes {
		if v.session != nil {
			open = append(open, v.session)
		}
	}
	r.mu.Unlock()
	if leader == r.server.cfg.Node {
		leader = ""
	}
	for _, s := range open {
		s.stop(&bye{Leader: leader, Reason: "this manager does not lead any more"})
	}
	r.work.Wait()
}

func (r *reign) sessions() map[string]Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wakeLocked(time.Now())
	out := make(map[string]Session, len(r.nodes))
	for node, v := range r.nodes {
		heard, ends := r.lastLocked(v)
		out[node] = Session{node, v.session != nil, heard, ends, v.description}
	}
	return out
}

func (r *reign) terms() Terms {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.termsLocked()
}

func (r *reign) termsLocked() Terms {
	return r.server.cfg.Terms(max(len(r.nodes), r.board.nodes))
}
