package overlaynet

import (
	"context"
	"errors"
	"log/slog"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Options of New.
type Options struct {
	RunDir string // namespaces are bind-mounted under RunDir/netns
	Log    *slog.Logger
	Source Source
	Links  Links
	Names  Names
	Rules  Rules
	Ports  Ports
}

// Manager keeps the node's network.
type Manager struct{ opt Options }

// New returns a Manager that has touched nothing yet: call Restore first.
func New(o Options) *Manager { return &Manager{opt: o} }

var errLater = errors.New("not built yet")

// Connect makes the sandbox.
func (m *Manager) Connect(ctx context.Context, sb Sandbox) (*Connected, error) { return nil, errLater }

// Disconnect removes it; unknown IDs are no error.
func (m *Manager) Disconnect(ctx context.Context, id string) error { return errLater }

// SetReady says whether the sandbox takes traffic of shared names and ports.
func (m *Manager) SetReady(id string, ready bool) {}

// Restore is called once, before anything else: what exists is kept, the rest of our mark is swept.
func (m *Manager) Restore(ctx context.Context, have []Restored) error { return errLater }

// ConnectNetwork adds a network to a running sandbox.
func (m *Manager) ConnectNetwork(ctx context.Context, id string, at stack.Attachment) (*Connected, error) {
	return nil, errLater
}

// DisconnectNetwork takes a network from a running sandbox.
func (m *Manager) DisconnectNetwork(ctx context.Context, id, network string) (*Connected, error) {
	return nil, errLater
}

// Endpoints of a network on this node, by sandbox ID.
func (m *Manager) Endpoints(network string) map[string]runtime.Endpoint { return nil }

// Set makes the node match c.
func (m *Manager) Set(ctx context.Context, c Config) error { return errLater }

// Run repairs damage until ctx ends.
func (m *Manager) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
