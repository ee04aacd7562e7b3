package dispatch

import (
	"sync"
	"time"
)

// lease is a node's permission to act as part of the cluster. Only the monotonic
// clock of this machine counts.
type lease struct {
	mu    sync.Mutex
	terms Terms                // guarded by mu: the last that were granted
	from  time.Time            // guarded by mu: when what until counts from was sent
	until time.Time            // guarded by mu; zero: none was ever granted
	sent  map[uint64]time.Time // guarded by mu: heartbeats without an answer
}

func newLease() *lease { return &lease{sent: map[uint64]time.Time{}} }

// beat notes that a heartbeat is about to be sent.
func (l *lease) beat(seq uint64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[seq] = now
}

// acked grants a lease from the moment the acknowledged heartbeat was sent, to a
// node that was told what it is for: what it was told before may run elsewhere.
func (l *lease) acked(seq uint64, t Terms, told bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.sent[seq]
	if !ok {
		return
	}
	for s := range l.sent {
		if s <= seq {
			delete(l.sent, s)
		}
	}
	if told {
		l.grantLocked(at, t)
	}
}

// grant is for a node that leads itself: at is from before it made sure that it does.
func (l *lease) grant(at time.Time, t Terms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grantLocked(at, t)
}

func (l *lease) grantLocked(at time.Time, t Terms) {
	l.terms = t
	if end := at.Add(t.Lease); end.After(l.until) {
		l.from, l.until = at, end
	}
}

func (l *lease) term() (from, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from, l.until
}

// forget drops the heartbeats of a session that has ended: whatever answers them is not the server.
func (l *lease) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sent)
}

// overdue says how long the oldest heartbeat without an answer has been under way.
func (l *lease) overdue(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for _, at := range l.sent {
		longest = max(longest, now.Sub(at))
	}
	return longest
}

// holds says whether the lease has not ended, and when it does.
func (l *lease) holds(now time.Time) (bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.until), l.until
}
