package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/loop"
)

// reconcile decides and stores what is to be done, round by round, until ctx ends.
func (m *Manager) reconcile(ctx context.Context) error {
	l := loop.New(m.loopConfig(m.openBooks()))
	defer m.closeBooks()
	backoff := time.Duration(0)
	for {
		changed, had := m.store.Changed(), m.inventoryChanged()
		next, err := m.round(ctx, l)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrNotLeader) { // ctx is about to end
			next, changed, had = time.Now().Add(deposedPause), nil, nil
		} else if err != nil {
			backoff = min(max(2*backoff, 50*time.Millisecond), 5*time.Second)
			m.log.Error("reconcile", "error", err, "retry", backoff)
			next, changed, had = time.Now().Add(backoff), nil, nil
		} else {
			backoff = 0
		}
		if !waitFor(ctx, changed, had, next) {
			return ctx.Err()
		}
	}
}

// inventoryChanged is closed when a node has other images or volumes; nil: never.
func (m *Manager) inventoryChanged() <-chan struct{} {
	if m.cfg.Inventory == nil {
		return nil
	}
	return m.cfg.Inventory.Changed()
}

func (m *Manager) loopConfig(books *address.Books) loop.Config {
	return loop.Config{
		Store: m.store, Propose: m.propose, NewID: newID, Inventory: m.cfg.Inventory, LeaseEnded: m.leaseEnded, DrainGrace: m.cfg.DrainGrace,
		Books: books,
	}
}

// openBooks begins to keep who has which address.
func (m *Manager) openBooks() *address.Books {
	m.write.Lock()
	defer m.write.Unlock()
	m.books = address.New()
	return m.books
}

func (m *Manager) closeBooks() {
	m.write.Lock()
	defer m.write.Unlock()
	m.books = nil
}

// round keeps everybody else's commands away from what a round builds on.
func (m *Manager) round(ctx context.Context, l *loop.Loop) (time.Time, error) {
	if err := m.turn(ctx); err != nil {
		return time.Time{}, err
	}
	defer m.write.Unlock()
	return l.Round(ctx, time.Now())
}

// wait blocks until something changed or the time has come (zero: never); false when ctx ended.
func wait(ctx context.Context, changed <-chan struct{}, at time.Time) bool {
	return waitFor(ctx, changed, nil, at)
}

// leaseEnded reports whether a node that does not answer has certainly ended its exclusive tasks.
func (m *Manager) leaseEnded(node string) bool {
	n := m.store.Snapshot().Node(node)
	return n == nil || n.Fenced
}
