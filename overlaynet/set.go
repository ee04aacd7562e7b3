package overlaynet

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
)

// Set makes the node match c: sandboxes that are not in it go, those that
// differ are made anew, bridges without sandboxes go. It may be called
// repeatedly with the same Config, and then repairs what somebody else has
// changed in the kernel but writes nothing when nothing has; the zero Config
// removes everything we own and nothing else.
func (m *Manager) Set(ctx context.Context, c Config) error {
	want := map[string]Restored{}
	for _, r := range c.Sandboxes {
		want[r.ID] = r
	}
	m.mu.Lock()
	var gone []string
	for id, s := range m.spaces {
		if r, ok := want[id]; !ok || !reflect.DeepEqual(r.Sandbox, s.sb) {
			gone = append(gone, id)
		}
	}
	m.mu.Unlock()
	slices.Sort(gone)
	errs := m.disconnectAll(ctx, gone)
	for _, r := range c.Sandboxes {
		errs = append(errs, m.setOne(ctx, r))
	}
	errs = append(errs, m.prune(ctx, func(*network) bool { return true }))
	if len(want) == 0 {
		errs = append(errs, m.nothing(ctx))
	} else { // what was there already may have been damaged
		errs = append(errs, m.repair(ctx))
	}
	return errors.Join(errs...)
}

// disconnectAll removes sandboxes side by side: the kernel takes as long for
// many links together as for one.
func (m *Manager) disconnectAll(ctx context.Context, ids []string) []error {
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { errs[i] = m.Disconnect(ctx, id) })
	}
	wg.Wait()
	return errs
}

func (m *Manager) setOne(ctx context.Context, r Restored) error {
	defer m.ids.lock(r.ID)()
	if _, err := m.connect(ctx, r); err != nil {
		return err
	}
	m.setReady(r.ID, r.Ready)
	return nil
}

// nothing removes what is ours though no sandbox asks for it.
func (m *Manager) nothing(ctx context.Context) error {
	m.mu.Lock()
	m.off = true
	for _, service := range sortedKeys(m.pubs) {
		m.publishLocked(service, nil)
	}
	m.pubDir, m.behind, m.behindOf = nil, map[string]*distant{}, index[*distant]{}
	m.pending.mesh = true
	m.mu.Unlock()
	err := m.flush(ctx)
	m.mu.Lock()
	mesh, asked := m.sent.mesh, m.sent.asked
	m.sent = newSent()
	m.sent.mesh, m.sent.asked = mesh, asked
	m.mu.Unlock()
	return errors.Join(err, m.opt.Rules.Clear(ctx), m.opt.Links.Sweep(ctx, nil, nil))
}
