package consensus

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// Config of a Log.
type Config struct {
	Dir   string // made when missing
	ID    string // of this node, the same at every start. When Dir is lost, its ID must not be used again
	Store *state.Store
	Log   *slog.Logger

	// Stream leads to other managers and is closed by Close. Nil: this voter
	// stays alone, and a log of several voters is refused.
	Stream Stream

	// Join: a new log is not a cluster of its own, but waits until a leader adds
	// this node. A log that exists is opened as it is.
	Join bool

	// WrapLog, when set, wraps the store of log entries, to encrypt them for
	// example. It gets the durable store and returns the one to use.
	WrapLog func(raft.LogStore) raft.LogStore

	SnapshotThreshold uint64 // commands between two snapshots; 0: 4096
	TrailingLogs      uint64 // commands kept behind a snapshot; 0: 1024
}

// Log is the replicated log of this manager.
type Log struct {
	cfg    Config
	raft   *raft.Raft
	trans  raft.Transport
	net    *transport // trans, when there is a Stream; else nil
	fsm    *fsm
	files  files
	closed chan struct{} // closed by Close

	running atomic.Pointer[raft.Raft] // raft once it runs, for who may ask before
	silent  atomic.Bool               // the disk does not answer: to the others this manager is dead
	settled atomic.Uint64             // the term in which this leader has applied all of the past

	members chan struct{} // room for one: who takes part is being changed, or must not be

	mu      sync.Mutex
	changed chan struct{}   // guarded by mu; closed and replaced when the leader changes
	flying  []chan struct{} // guarded by mu: of commands that nobody waits for any more; closed when their fate is known
	watched sync.WaitGroup
}

// Leader returns the node ID of the leader, "" when it is not known.
func (l *Log) Leader() string {
	if l.silent.Load() {
		return ""
	}
	_, id := l.raft.LeaderWithID()
	return string(id)
}

// Leading reports whether this manager leads. It may have lost the leadership
// without knowing yet: what rests on it goes through Apply or Verify.
func (l *Log) Leading() bool { return !l.silent.Load() && l.raft.State() == raft.Leader }

func (l *Log) runningLeads() bool {
	r := l.running.Load()
	return r != nil && r.State() == raft.Leader
}

// LeaderChanged returns a channel that is closed when Leader or Leading
// changes. Taken before asking them, it misses no change.
func (l *Log) LeaderChanged() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// watch turns raft's notices into LeaderChanged until Close.
func (l *Log) watch() {
	notices := make(chan raft.Observation, 1) // a full channel means that a look is due anyway
	o := raft.NewObserver(notices, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	l.raft.RegisterObserver(o)
	l.watched.Go(func() {
		defer l.raft.DeregisterObserver(o)
		for {
			select {
			case <-notices:
				l.notify()
			case <-l.closed:
				return
			}
		}
	})
}

func (l *Log) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// fallSilent makes this manager dead to the others, or alive again.
func (l *Log) fallSilent(on bool) {
	l.silent.Store(on)
	l.net.layer.mute(on)
	l.notify()
}

// LastContact is when this manager last heard of the leader; now, when it leads.
func (l *Log) LastContact() time.Time {
	if l.Leading() {
		return time.Now()
	}
	return l.raft.LastContact()
}

// Indexes says how far a log is.
type Indexes struct {
	Term      uint64
	Last      uint64 // newest entry stored here, committed or not
	Committed uint64 // newest entry that this manager knows to be committed
	Applied   uint64 // newest command that the store holds
}

// Indexes says how far this manager's log is.
func (l *Log) Indexes() Indexes {
	return Indexes{Term: l.raft.CurrentTerm(), Last: l.raft.LastIndex(), Committed: l.raft.CommitIndex(), Applied: l.fsm.applied.Load()}
}

// closing bounds how long Close waits for another voter to take the leadership over.
const closing = 2 * time.Second

// Close hands the leadership over when this manager has it and others can take
// it, stops raft and closes the files. What was applied is durable without it.
func (l *Log) Close() error {
	if l.Leading() {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		_ = l.Transfer(ctx) // nobody may be there to take it: the others elect when they are
		cancel()
	}
	return l.stop()
}
