package overlaynet

import "context"

// Round is one look at what the Source says, as Run takes it.
func (m *Manager) Round(ctx context.Context) error { return m.round(ctx) }
