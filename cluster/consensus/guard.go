package consensus

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// guard stands between raft and its disk, and keeps a bad disk this manager's
// own trouble. Raft does not bear some errors, and not all delays:
//
//   - A leader that waits for its disk still sends heartbeats: nothing would be
//     committed, and nobody would elect another. After stall it falls silent
//     until the disk has answered.
//   - A leader that cannot write steps down, and could be elected again at once,
//     for its log is the longest. It does not stand for election for a while.
//   - A term that cannot be stored makes raft panic. It is tried again, in
//     silence.
//   - A follower that has cut off its log's end and cannot write the new one
//     would be out of step with its own log until restarted. It waits.
type guard struct {
	logs   raft.LogStore
	stable raft.StableStore
	log    *slog.Logger

	// Set before raft runs: silent makes this manager dead to the others, or alive
	// again; leading says whether it leads; closed ends all waiting.
	closed  <-chan struct{}
	silent  func(bool)
	leading func() bool

	unfit   atomic.Int64 // Unix nanoseconds until which it does not stand for election
	cut     atomic.Bool  // the end of the log was cut off and is not written anew
	lied    atomic.Bool  // a term that raft goes by is not stored; the log is being closed
	written atomic.Bool  // the last write succeeded; to say changes only
}

const (
	stall    = 2 * time.Second        // a write that takes longer is a broken disk
	excused  = 5 * time.Second        // how long a manager that cannot write leaves elections to others
	retrying = 250 * time.Millisecond // between two tries of what must be written
)

func newGuard(logs raft.LogStore, stable raft.StableStore, log *slog.Logger) *guard {
	g := &guard{logs: logs, stable: stable, log: log, silent: func(bool) {}, leading: func() bool { return false }}
	g.written.Store(true)
	return g
}

// fit reports whether this manager's disk allows it to lead.
func (g *guard) fit() bool { return time.Now().UnixNano() >= g.unfit.Load() }

// watched does a write; while it takes too long on a leader, the leader is silent.
func (g *guard) watched(write func() error) error {
	fell := make(chan bool, 1)
	t := time.AfterFunc(stall, func() {
		lead := g.leading()
		if lead {
			g.log.Error("the disk does not answer: leaving the lead to others", "after", stall)
			g.silent(true)
		}
		fell <- lead
	})
	err := write()
	if !t.Stop() && <-fell {
		g.log.Warn("the disk answers again")
		g.silent(false)
	}
	return err
}

// result notes how a write of entries went.
func (g *guard) result(err error) error {
	if err == nil {
		g.unfit.Store(0)
		if !g.written.Swap(true) {
			g.log.Info("log can be written again")
		}
		return nil
	}
	g.unfit.Store(time.Now().Add(excused).UnixNano())
	if g.written.Swap(false) {
		g.log.Error("log cannot be written: this manager stores nothing until it can; is the disk full?", "err", err)
	}
	return err
}

// StoreLog stores an entry durably.
func (g *guard) StoreLog(e *raft.Log) error { return g.StoreLogs([]*raft.Log{e}) }

// StoreLogs stores entries durably, all or none.
func (g *guard) StoreLogs(entries []*raft.Log) error {
	for {
		if g.lied.Load() {
			return errClosing
		}
		err := g.result(g.watched(func() error { return g.logs.StoreLogs(entries) }))
		if err == nil {
			g.cut.Store(false)
			return nil
		}
		if !g.cut.Load() || !g.pause() {
			return err
		}
	}
}

// pause waits before the next try; false when the log is being closed.
func (g *guard) pause() bool {
	select {
	case <-time.After(retrying):
		return true
	case <-g.closed:
		return false
	}
}

// DeleteRange deletes entries at the beginning or at the end.
func (g *guard) DeleteRange(from, to uint64) error {
	first, err := g.logs.FirstIndex()
	if err != nil {
		return err
	}
	if from > first {
		g.cut.Store(true)
	}
	for {
		err := g.watched(func() error { return g.logs.DeleteRange(from, to) })
		if err == nil || from <= first || !g.pause() {
			return err
		}
		_ = g.result(err) // told once
	}
}

// FirstIndex of the log; 0: it is empty.
func (g *guard) FirstIndex() (uint64, error) { return g.logs.FirstIndex() }

// LastIndex of the log; 0: it is empty.
func (g *guard) LastIndex() (uint64, error) { return g.logs.LastIndex() }

// GetLog reads an entry; raft.ErrLogNotFound when there is none.
func (g *guard) GetLog(index uint64, e *raft.Log) error { return g.logs.GetLog(index, e) }

// IsMonotonic tells raft that entries have no gaps, whatever wraps the store below.
func (g *guard) IsMonotonic() bool { return true }

// SetUint64 stores a term. It does not return before that has succeeded, or
// the log is being closed; then nothing that rests on it is stored either.
func (g *guard) SetUint64(key []byte, n uint64) error {
	silent := false
	for {
		err := g.watched(func() error { return g.stable.SetUint64(key, n) })
		if err != nil && !silent {
			g.log.Error("term cannot be stored: keeping silent until it can", "err", err)
			g.silent(true)
			silent = true
		}
		if err == nil {
			if silent {
				g.silent(false)
			}
			return nil
		}
		if !g.pause() {
			g.lied.Store(true)
			return nil
		}
	}
}

var errClosing = errors.New("the log is being closed")

// Set stores a vote.
func (g *guard) Set(key, value []byte) error {
	if g.lied.Load() {
		return errClosing
	}
	return g.watched(func() error { return g.stable.Set(key, value) })
}

// GetUint64 returns a term.
func (g *guard) GetUint64(key []byte) (uint64, error) { return g.stable.GetUint64(key) }

// Get returns a vote's candidate.
func (g *guard) Get(key []byte) ([]byte, error) { return g.stable.Get(key) }
