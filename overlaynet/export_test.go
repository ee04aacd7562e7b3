package overlaynet

import (
	"context"
	"errors"
)

// Round is one look at what the Source says, as Run takes it, with the
// connections that end by it.
func (m *Manager) Round(ctx context.Context) error {
	return errors.Join(m.round(ctx), m.forgetFlows(ctx))
}

// RoundOnly leaves the connections to Run.
func (m *Manager) RoundOnly(ctx context.Context) error { return m.round(ctx) }
