package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// RollbackOptions of Rollback.
type RollbackOptions struct {
	To     uint64 // revision
	DryRun bool   // only the plan
	Node   string // host name of the node that was asked
	Grace  *time.Duration
}

// Rollback applies an earlier revision of a stack as a new one: the same images,
// secrets and configs as then. It returns what Deploy returns.
func (m *Manager) Rollback(ctx context.Context, name string, opt RollbackOptions) (*plan.Plan, uint64, error) {
	if err := m.turn(ctx); err != nil {
		return nil, 0, fmt.Errorf("stack %s: %w", name, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	r, err := revisionTo(snap, name, opt.To)
	if err != nil {
		return nil, 0, fmt.Errorf("stack %s: %w", name, err)
	}
	s, err := unpack(r.Definition)
	if err != nil {
		return nil, 0, fmt.Errorf("stack %s: revision %d: %w", name, r.Number, err)
	}
	d := Deployment{Stack: asThen(snap, s), Options: plan.Options{RemoveOrphans: true, Grace: opt.Grace}, DryRun: opt.DryRun, Node: opt.Node, back: r.Number}
	if s.Home == m.node {
		d.Found = CheckLocal(s, m.cfg.Host)
	}
	return m.apply(ctx, snap, d, nil)
}

func revisionTo(snap *state.Snapshot, name string, number uint64) (*state.Revision, error) {
	if snap.Stack(name) == nil {
		return nil, runtime.ErrNotFound
	}
	r := snap.Revision(name, number)
	if r == nil {
		return nil, fmt.Errorf("revision %d is not kept; `dhow history` lists those that are: %w", number, runtime.ErrNotFound)
	}
	return r, nil
}

// asThen leaves what others own as they have it now: the content of external
// secrets and configs is not this stack's to bring back.
func asThen(snap *state.Snapshot, s stack.Stack) stack.Stack {
	for key, v := range s.Secrets {
		if v.External {
			v.Sum = externalSum(snap, kindSecret, v.Name)
			s.Secrets[key] = v
		}
	}
	for key, v := range s.Configs {
		if v.External {
			v.Sum = externalSum(snap, kindConfig, v.Name)
			s.Configs[key] = v
		}
	}
	return s
}
