package volumes

import (
	"context"
	"errors"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

var errStub = errors.New("volumes: not built yet")

// Manager keeps the volumes of one node. It is safe for concurrent use.
type Manager struct{}

// Open loads the records below cfg.DataDir and repairs what a crash left.
func Open(cfg Config) (*Manager, error) { return &Manager{}, nil }

func (m *Manager) Create(ctx context.Context, s Spec) (Volume, error) { return Volume{}, errStub }
func (m *Manager) Inspect(ctx context.Context, name string) (Volume, error) {
	return Volume{}, errStub
}
func (m *Manager) List(ctx context.Context) ([]Volume, error)                { return nil, nil }
func (m *Manager) Remove(ctx context.Context, name string, force bool) error { return errStub }
func (m *Manager) Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error) {
	return runtime.PruneReport{}, errStub
}
func (m *Manager) Users(name string) []string                                 { return nil }
func (m *Manager) Usage(ctx context.Context, name string) (int64, error)      { return 0, errStub }
func (m *Manager) Known(ctx context.Context, users map[string][]string) error { return nil }
func (m *Manager) Prepare(ctx context.Context, user string, mounts []stack.Mount, rootfs string) ([]Prepared, error) {
	if len(mounts) == 0 {
		return nil, nil
	}
	return nil, errStub
}
func (m *Manager) Unmount(ctx context.Context, user string) error         { return nil }
func (m *Manager) Release(ctx context.Context, user string) error         { return nil }
func (m *Manager) RemoveAnonymous(ctx context.Context, user string) error { return nil }
