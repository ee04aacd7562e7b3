package loop

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// batch collects changes into commands of bounded size, each of which leaves a
// state that decisions can go on from, should it be the last one of this leader.
type batch struct {
	loop    *Loop
	changes []state.Change
	bytes   int      // estimated
	placed  []string // tasks
	binds   []string // volumes
}

// put stores a decision and reports whether all of it was: what is too much for
// one round is decided anew in the next.
func (b *batch) put(ctx context.Context, d *decision, p *placer) (whole bool, err error) {
	if len(d.first)+len(d.tasks)+len(d.last) <= commandChanges {
		return true, b.unit(ctx, p, d.first, d.tasks, d.last)
	}
	if err := b.unit(ctx, p, d.first, nil, nil); err != nil {
		return false, err
	}
	limit := max(roundChanges, len(d.tasks)/4)
	done := 0
	for _, slot := range d.bySlot() {
		if done >= limit {
			return false, nil
		}
		done += len(slot)
		if err := b.unit(ctx, p, nil, slot, nil); err != nil {
			return false, err
		}
	}
	return true, b.unit(ctx, p, nil, nil, d.last)
}

// unit puts changes into one command.
func (b *batch) unit(ctx context.Context, p *placer, first []state.Change, tasks []taskChange, last []state.Change) error {
	if len(b.changes)+len(first)+len(tasks)+len(last) > commandChanges || b.bytes > commandBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.add(first...)
	for i := range tasks {
		b.task(p, &tasks[i])
	}
	b.add(last...)
	return nil
}

func (b *batch) add(changes ...state.Change) {
	b.changes = append(b.changes, changes...)
	b.bytes += 1000 * len(changes)
}

func (b *batch) task(p *placer, c *taskChange) {
	switch {
	case c.drop != "":
		b.changes = append(b.changes, drop(state.TableTask, c.drop))
		b.bytes += 100
		return
	case c.retire != nil:
		b.changes = append(b.changes, state.Change{Retire: c.retire})
		b.bytes += sizeOf(c.retire)
		return
	}
	t, binds, changed := p.task(c.change)
	b.add(p.yielded...) // also when the task itself stays as it was: the books say so already
	p.yielded = nil
	if !changed {
		return
	}
	if c.change.Place && t.Node != "" {
		b.placed = append(b.placed, t.ID)
	}
	for _, v := range binds { // before the task: who has one has the other
		b.binds = append(b.binds, v.Name)
		b.add(state.Change{Volume: v})
	}
	ch := state.Change{Update: t}
	if c.change.New {
		ch = state.Change{Create: t}
	}
	b.changes = append(b.changes, ch)
	b.bytes += sizeOf(t)
}

// sizeOf estimates the bytes of a task in a command.
func sizeOf(t *stack.Task) int {
	return 450 + len(t.Status.Message) + 120*(len(t.Anonymous)+len(t.Status.Anonymous)) + 60*len(t.Addresses)
}

// flush proposes what was collected as one command. When that fails, nothing is
// counted as placed: should the command be applied after all, the feed will tell.
func (b *batch) flush(ctx context.Context) error {
	if len(b.changes) == 0 {
		return nil
	}
	_, err := b.loop.cfg.Propose(ctx, b.changes)
	if err == nil {
		b.loop.stats.Changes += len(b.changes)
		b.loop.stats.Commands++
		*b = batch{loop: b.loop, changes: make([]state.Change, 0, len(b.changes))}
		return nil
	}
	for _, id := range b.placed {
		b.loop.view.cluster.Remove(id)
	}
	for _, name := range b.binds {
		b.loop.view.cluster.BindVolume(name, "")
	}
	b.loop.view.books.Reset()
	b.loop.view.index = 0 // nothing that was looked at may be forgotten: begin anew
	b.loop.view.snap = nil
	return fmt.Errorf("store decisions: %w", err)
}
