package cluster

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/cluster/state"
)

// ForgetVolume drops what is known of a volume's node: the volume was removed,
// or its node will not come back. The next task that uses it binds it anew.
func (m *Manager) ForgetVolume(ctx context.Context, name string) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("forget volume %s: %w", name, err)
	}
	defer m.write.Unlock()
	if m.store.Snapshot().Volume(name) == nil {
		return nil
	}
	if _, err := m.propose(ctx, []state.Change{{Delete: &state.Key{Table: state.TableVolume, Name: name}}}); err != nil {
		return fmt.Errorf("forget volume %s: %w", name, err)
	}
	m.log.Info("volume is nowhere any more", "volume", name)
	return nil
}
