package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// inProcess is the session of a node that leads itself.
type inProcess struct {
	node string
	core Core
}

func (p inProcess) report(ctx context.Context, reports []stack.TaskReport) error {
	return p.core.Report(ctx, p.node, reports)
}

// restFactor is how many times as long as a look at the state took the next one waits.
const restFactor = 4

// verifyTime is how long a leader may take to make sure that it is one.
const verifyTime = 5 * time.Second

// lead is a session with this process's own manager, until it does not lead any more.
func (c *Client) lead(ctx context.Context, core Core) error {
	ctx, drop := context.WithCancelCause(ctx)
	defer drop(nil)
	vctx, cancel := context.WithTimeout(ctx, verifyTime)
	err := core.Verify(vctx) // what the leader before has committed counts
	cancel()
	if err != nil {
		return fmt.Errorf("verify leadership: %w", err)
	}
	c.use(inProcess{c.cfg.Node, core}, c.cfg.Node, drop)
	defer c.use(nil, "", nil)
	var renewal sync.WaitGroup
	defer func() { drop(nil); renewal.Wait() }()
	var index uint64
	topics := map[string]bool{}
	for first := true; ; first = false {
		wake, changed := c.wake(), core.Changed()
		if c.local() == nil {
			return errors.New("this node does not lead any more")
		}
		t := core.Touched(index)
		index = t.Index
		t.All = t.All || first
		began := time.Now()
		var rest <-chan time.Time
		if c.look(core, t, topics) {
			c.cache.poke()
			rest = time.After(min(restFactor*time.Since(began), updateEvery))
		}
		if first { // the lease is for what was told
			renewal.Go(func() { c.renew(ctx, core) })
		}
		if rest != nil && !first { // what changes in a burst is looked at together
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-rest:
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-wake:
		case <-c.described:
			c.hello(ctx, core)
		}
	}
}

// look takes in what changed for this node, and reports whether anything did.
// Topics are those that it reads, and are kept up.
func (c *Client) look(core Core, t Touched, topics map[string]bool) bool {
	said := told{index: t.Index}
	_, touched := t.Nodes[c.cfg.Node]
	if t.All || t.View || touched {
		list := core.Assignments(c.cfg.Node)
		t.readBy(core.Touched(t.Index)) // what the tasks need may be as new as they are
		said.tasks = &list
		said.topics = append([]string{}, core.Topics(c.cfg.Node)...)
		maps.DeleteFunc(topics, func(topic string, _ bool) bool { return !slices.Contains(said.topics, topic) })
		for _, topic := range said.topics {
			if keys, changed := t.Topics[topic]; !topics[topic] || t.All {
				said.news = append(said.news, binder{topic, nil, core.Directory(topic, nil)})
				topics[topic] = true
			} else if changed {
				said.news = append(said.news, binder{topic, keys, core.Directory(topic, keys)})
			}
		}
	} else {
		for topic, keys := range t.Topics {
			if topics[topic] {
				said.news = append(said.news, binder{topic, keys, core.Directory(topic, keys)})
			}
		}
	}
	if t.All || t.View {
		v := core.View()
		said.view = &v
	}
	if said.tasks == nil && len(said.news) == 0 {
		return false
	}
	c.mirror.set(said)
	return true
}

// readBy adds what else has to be read, as later changes concern it.
func (t *Touched) readBy(later Touched) {
	t.All, t.View = t.All || later.All, t.View || later.View
	topics := maps.Clone(later.Topics)
	for topic, keys := range t.Topics {
		if more, both := topics[topic]; both && keys != nil && more != nil {
			keys = slices.Concat(keys, more)
		} else if both {
			keys = nil
		}
		if topics == nil {
			topics = map[string][]string{}
		}
		topics[topic] = keys
	}
	t.Topics = topics
}

// hello stores what this node says of itself.
func (c *Client) hello(ctx context.Context, core Core) {
	if err := core.Hello(ctx, c.cfg.Node, c.describe()); err != nil && ctx.Err() == nil {
		c.log.Warn("store this node's description", "error", err)
		if !errors.Is(err, ErrRefused) {
			time.AfterFunc(again, c.Refresh)
		}
	}
}

// renew grants this node its lease for as long as it leads for certain: a
// manager that stood still believes for a moment that it does.
func (c *Client) renew(ctx context.Context, core Core) {
	c.Refresh()
	for {
		terms := c.cfg.Terms(len(c.View().Nodes))
		at := time.Now()
		vctx, cancel := context.WithTimeout(ctx, terms.Lease)
		err := core.Verify(vctx)
		cancel()
		if err == nil {
			c.lease.grant(at, terms)
		} else if ctx.Err() == nil {
			c.log.Debug("this node's own lease", "error", fmt.Errorf("verify leadership: %w", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(terms.Beat):
		}
	}
}
