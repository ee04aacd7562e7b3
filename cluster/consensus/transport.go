package consensus

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// callTimeout bounds one call to another manager, and dialling it. A call may
// wait for the other's disk.
const callTimeout = 3 * time.Second

// connections kept to each other manager: heartbeats and entries go side by side.
const pooled = 3

// transport is raft's network transport over a Stream. It keeps account of what
// the others have answered.
type transport struct {
	*raft.NetworkTransport
	layer *layer
	fit   func() bool // whether this node may stand for election

	mu    sync.Mutex
	peers map[raft.ServerID]contact // guarded by mu
}

// contact is what this node, as leader of a term, knows of another.
type contact struct {
	term  uint64
	sent  time.Time // of the newest call that it answered as a follower of this term
	heard time.Time // of its newest answer
	match uint64    // its log equals this node's up to here
}

func newTransport(id string, s Stream, log hclog.Logger, fit func() bool) *transport {
	l := newLayer(id, s)
	// One call at a time to each follower: answers then come in the order of what
	// they answer, and many commands go in one call anyway.
	n := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, Logger: log, MaxPool: pooled, MaxRPCsInFlight: 1, Timeout: callTimeout,
	})
	return &transport{NetworkTransport: n, layer: l, fit: fit, peers: map[raft.ServerID]contact{}}
}

// Close ends all connections.
func (t *transport) Close() error {
	err := t.NetworkTransport.Close()
	t.CloseStreams()
	return err
}

// AppendEntries sends entries, or a heartbeat, and notes the answer.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Success {
		match := args.PrevLogEntry
		if n := len(args.Entries); n > 0 {
			match = args.Entries[n-1].Index
		}
		t.note(id, contact{args.Term, sent, time.Now(), match})
	}
	return nil
}

// InstallSnapshot sends a whole state and notes the answer.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	sent := time.Now()
	if err := t.NetworkTransport.InstallSnapshot(id, target, args, resp, data); err != nil {
		return err
	}
	if resp.Success {
		t.note(id, contact{args.Term, sent, time.Now(), args.LastLogIndex})
	}
	return nil
}

func (t *transport) note(id raft.ServerID, c contact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.peers[id]
	switch {
	case old.term > c.term:
		return
	case old.term == c.term:
		c.match = max(c.match, old.match)
		if old.sent.After(c.sent) {
			c.sent = old.sent
		}
	}
	t.peers[id] = c
}

// followed reports whether a node has answered as a follower of a term to what
// was sent since a time.
func (t *transport) followed(id raft.ServerID, term uint64, since time.Time) bool {
	c := t.contact(id, term)
	return !c.sent.Before(since) && !c.sent.IsZero()
}

// contact returns what is known of a node in a term.
func (t *transport) contact(id raft.ServerID, term uint64) contact {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.peers[id]; c.term == term {
		return c
	}
	return contact{}
}

// RequestPreVote asks for a vote on trial.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.ask(func() error { return t.NetworkTransport.RequestPreVote(id, target, args, resp) })
}

// RequestVote asks for a vote.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.ask(func() error { return t.NetworkTransport.RequestVote(id, target, args, resp) })
}

// ask makes a call once more for each kept connection that may have died
// unnoticed, as when the other was restarted: a lost question would cost an
// election timeout. A node that could not lead does not ask.
func (t *transport) ask(call func() error) error {
	if !t.fit() {
		return errUnfit
	}
	start := time.Now()
	for i := 0; ; i++ {
		err := call()
		if err == nil || i == pooled || time.Since(start) > heartbeat/4 {
			return err
		}
	}
}

var errUnfit = errors.New("this manager's log cannot be written: it does not stand for election")
