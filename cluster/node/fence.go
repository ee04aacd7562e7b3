package node

import (
	"context"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/stack"
)

// fence is what the agent sees of its tasks: those of exclusive services only
// while this node's lease holds. When no manager has been heard of for most of
// a lease they are ended here, before another node may run them, whatever the
// managers think of this node. They come back when a manager says so.
type fence struct {
	client *dispatch.Client
	began  time.Time       // until a lease later, who has no session yet is given the time to get one
	done   <-chan struct{} // of the epoch
	moved  chan struct{}   // sent to when the lease has come near its end, or is there again
}

func newFence(ctx context.Context, c *dispatch.Client) *fence {
	return &fence{client: c, began: time.Now(), done: ctx.Done(), moved: make(chan struct{})}
}

// early is how long before the end of the lease exclusive tasks are ended: they
// have to be gone when it is over.
const early = 1500 * time.Millisecond

// farewell is what they get between the signal to stop and the kill.
const farewell = time.Second

func (f *fence) Assignments(node string) []stack.Assignment {
	list := f.client.Assignments(node)
	if f.holds() {
		return list
	}
	list = slices.Clone(list)
	for i := range list {
		if s := list[i].Service; s != nil && s.Exclusive {
			grace := farewell
			list[i].Task.Desired, list[i].Task.Grace = stack.DesiredRemove, &grace
		}
	}
	return list
}

func (f *fence) holds() bool { return f.left() > 0 }

// left is for how long the lease holds, less what ending the tasks takes.
func (f *fence) left() time.Duration {
	_, until := f.client.Lease()
	if first := f.began.Add(dispatch.DefaultTerms(1).Lease); until.Before(first) {
		until = first
	}
	return time.Until(until) - early
}

// Changed is closed, or receives, when Assignments may answer otherwise.
func (f *fence) Changed() <-chan struct{} {
	changed := f.client.Changed()
	out := make(chan struct{})
	go func() {
		defer close(out)
		select {
		case <-changed:
		case <-f.moved:
		case <-f.done:
		}
	}()
	return out
}

func (f *fence) Report(ctx context.Context, reports []stack.TaskReport) error {
	return f.client.Report(ctx, reports)
}

// run watches the lease.
func (f *fence) run(ctx context.Context) error {
	held := true
	for {
		next := early / 6 // it may come back at any time
		if held {
			next = max(f.left(), 10*time.Millisecond)
		}
		if !pause(ctx, next) {
			return ctx.Err()
		}
		if now := f.holds(); now != held {
			held = now
			select {
			case f.moved <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
