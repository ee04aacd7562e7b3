package events

import (
	"context"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// History is how many past events the bus remembers.
const History = 1024

// backlog is how many events a subscriber may lag behind before it is dropped.
const backlog = 1024

// Bus distributes events. The zero value is ready to use; a nil Bus drops
// what is published.
type Bus struct {
	mu   sync.Mutex
	ring []runtime.Event // guarded by mu; a circle once it is full
	next int             // guarded by mu; index of the oldest when the ring is full
	subs map[*subscriber]struct{}
}

type subscriber struct {
	ch    chan runtime.Event
	until time.Time
	stop  func() bool // ends the watch on the subscriber's context
	timer *time.Timer // nil without an end
}

// New returns an empty bus.
func New() *Bus { return &Bus{} }

// Publish gives e to every subscriber. A zero time becomes now. It never
// blocks: a subscriber that lags too far behind is dropped.
func (b *Bus) Publish(e runtime.Event) {
	if b == nil {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rememberLocked(e)
	for s := range b.subs {
		if !s.until.IsZero() && e.Time.After(s.until) {
			b.dropLocked(s)
			continue
		}
		select {
		case s.ch <- e:
		default:
			b.dropLocked(s)
		}
	}
}

// Subscribe returns a channel of the remembered events since the given time
// (zero: none of them) and of all events to come, up to until (zero: no end).
// The channel is closed when ctx ends or until has passed. Closed earlier, it
// tells that the reader was too slow and has been dropped.
func (b *Bus) Subscribe(ctx context.Context, since, until time.Time) <-chan runtime.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	past := b.pastLocked(since, until)
	s := &subscriber{ch: make(chan runtime.Event, len(past)+backlog), until: until}
	for _, e := range past {
		s.ch <- e
	}
	left := time.Until(until)
	if ctx.Err() != nil || (!until.IsZero() && left <= 0) {
		close(s.ch)
		return s.ch
	}
	if b.subs == nil {
		b.subs = map[*subscriber]struct{}{}
	}
	b.subs[s] = struct{}{}
	s.stop = context.AfterFunc(ctx, func() { b.drop(s) })
	if !until.IsZero() {
		s.timer = time.AfterFunc(left, func() { b.drop(s) })
	}
	return s.ch
}

func (b *Bus) rememberLocked(e runtime.Event) {
	if len(b.ring) < History {
		b.ring = append(b.ring, e)
		return
	}
	b.ring[b.next] = e
	b.next = (b.next + 1) % History
}

func (b *Bus) pastLocked(since, until time.Time) []runtime.Event {
	if since.IsZero() {
		return nil
	}
	var out []runtime.Event
	for i := range b.ring {
		e := b.ring[(b.next+i)%len(b.ring)]
		if e.Time.Before(since) || (!until.IsZero() && e.Time.After(until)) {
			continue
		}
		out = append(out, e)
	}
	return out
}

func (b *Bus) drop(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(s)
}

func (b *Bus) dropLocked(s *subscriber) {
	if _, ok := b.subs[s]; !ok {
		return
	}
	delete(b.subs, s)
	s.stop()
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.ch)
}
