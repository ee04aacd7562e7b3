package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Logins are credentials by the host of a registry ("docker.io").
type Logins map[string]stack.RegistryAuth

// of is the login for an image's registry; nil when there is none.
func (l Logins) of(image string) *stack.RegistryAuth {
	if a, ok := l[stack.RegistryOf(image)]; ok {
		return &a
	}
	return nil
}

// aboutLogins binds the sealed logins to their stack.
func aboutLogins(stackName string) string { return "stack/" + stackName + "/logins" }

// sealLogins returns what a stack's record is to hold of its logins: those
// given now and, of what was given before, those for registries that the stack
// still needs. changed is false when it holds just that.
func (m *Manager) sealLogins(old *state.Stack, s stack.Stack, given Logins) (sealed []byte, changed bool, err error) {
	var have Logins
	if old != nil {
		if have, err = m.openLogins(old); err != nil {
			m.log.Warn("logins of the stack cannot be read and are forgotten", "stack", s.Name, "err", err)
			have = nil
		}
		sealed = old.Logins
	}
	now := Logins{}
	for _, sv := range s.Services {
		host := stack.RegistryOf(sv.Container.Image)
		if a, ok := given[host]; ok {
			now[host] = a
		} else if a, ok := have[host]; ok {
			now[host] = a
		}
	}
	switch {
	case len(now) == 0:
		return nil, len(sealed) > 0, nil
	case maps.Equal(now, have):
		return sealed, false, nil
	case m.cfg.Seal == nil:
		return nil, len(sealed) > 0, nil // nothing confidential can be kept: the nodes' own logins have to do
	}
	data, err := json.Marshal(now)
	if err != nil {
		return nil, false, err
	}
	if sealed, err = m.cfg.Seal.Seal(data, aboutLogins(s.Name)); err != nil {
		return nil, false, fmt.Errorf("seal registry logins: %w", err)
	}
	return sealed, true, nil
}

// withLogins adds to the changes of a deployment that the stack's logins are renewed.
func (m *Manager) withLogins(snap *state.Snapshot, s stack.Stack, changes []state.Change, given Logins) ([]state.Change, error) {
	old := snap.Stack(s.Name)
	sealed, changed, err := m.sealLogins(old, s, given)
	if err != nil || !changed {
		return changes, err
	}
	for _, c := range changes {
		if c.Stack != nil {
			c.Stack.Logins = sealed
			return changes, nil
		}
	}
	rec := *old // nothing else has changed, so the stack was there before
	rec.Logins = sealed
	return append(changes, state.Change{Stack: &rec}), nil
}

// openLogins returns the logins of a stack. They must not be changed.
func (m *Manager) openLogins(rec *state.Stack) (Logins, error) {
	if len(rec.Logins) == 0 || m.cfg.Seal == nil {
		return nil, nil
	}
	if l, ok := m.logins.get(rec); ok {
		return l, nil
	}
	data, err := m.cfg.Seal.Open(rec.Logins, aboutLogins(rec.Name))
	if err != nil {
		return nil, fmt.Errorf("open registry logins: %w", err)
	}
	var l Logins
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("registry logins: %w", err)
	}
	m.logins.put(rec, l)
	return l, nil
}

// login is what a task's node gets for its image.
func (m *Manager) login(rec *state.Stack, sv *stack.Service) *stack.RegistryAuth {
	l, err := m.openLogins(rec)
	if err != nil {
		m.log.Warn("a task goes without registry login", "stack", rec.Name, "service", sv.Name, "err", err)
		return nil
	}
	return l.of(sv.Container.Image)
}

// loginCache keeps opened logins: nodes are told of their tasks often.
type loginCache struct {
	mu    sync.Mutex
	known map[string]openedLogins // by stack; guarded by mu
}

type openedLogins struct {
	sealed []byte
	logins Logins
}

func (c *loginCache) get(rec *state.Stack) (Logins, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.known[rec.Name]
	return o.logins, ok && bytes.Equal(o.sealed, rec.Logins)
}

func (c *loginCache) put(rec *state.Stack, l Logins) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[string]openedLogins{}
	}
	c.known[rec.Name] = openedLogins{rec.Logins, l}
}
