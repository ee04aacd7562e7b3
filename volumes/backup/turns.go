package backup

import (
	"context"
	"slices"
	"sync"
)

// turns lets one operation at a time quiet a container. Two that did it side
// by side would mix: the one that is done first lets the container go on in
// the middle of the other. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // by container, guarded by mu; closed when its turn is over
}

// take waits for the turns of all containers and returns what ends them.
func (t *turns) take(ctx context.Context, ids []string) (done func(), err error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids))) // in one order, so that nobody waits in a circle
	for i, id := range ids {
		if err := t.one(ctx, id); err != nil {
			t.end(ids[:i])
			return func() {}, err
		}
	}
	return func() { t.end(ids) }, nil
}

func (t *turns) one(ctx context.Context, id string) error {
	for {
		t.mu.Lock()
		over := t.busy[id]
		if over == nil {
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[id] = make(chan struct{})
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) end(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		close(t.busy[id])
		delete(t.busy, id)
	}
}
