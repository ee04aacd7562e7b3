package overlaynet

import (
	"errors"
	"maps"
	"slices"
)

// reforward tells the resolver which domains have resolvers of their own, where
// that has changed: the one thing of a network that does without a new bridge.
func (m *Manager) reforward() error {
	var errs []error
	for _, n := range m.used() {
		def, ok := m.opt.Source.Network(n.key())
		if !ok {
			continue
		}
		n.up.Lock()
		if !maps.EqualFunc(n.forward, def.Forward, slices.Equal[[]string]) {
			n.forward = def.Forward
			if n.made {
				_, err := m.opt.Names.SetZone(n.zone())
				errs = append(errs, err)
			}
		}
		n.up.Unlock()
	}
	return errors.Join(errs...)
}
