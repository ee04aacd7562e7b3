package cluster

import (
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// HostCheck finds what services and volumes need of this machine and would not
// find: host paths, devices. It must not change anything.
type HostCheck interface {
	CheckService(s stack.Service) stack.Problems
	CheckVolume(v stack.Volume) stack.Problems
}

// preflight asks the machine about what a plan would start or make. What the
// plan leaves alone is not asked about: it runs.
func (m *Manager) preflight(p *plan.Plan) error {
	if m.cfg.Host == nil {
		return nil
	}
	var found stack.Problems
	for _, step := range p.Steps {
		switch {
		case step.Action == plan.Remove:
		case step.Kind == plan.Service:
			found = append(found, m.cfg.Host.CheckService(p.Stack.Services[step.Name])...)
		case step.Kind == plan.Volume:
			found = append(found, m.cfg.Host.CheckVolume(p.Stack.Volumes[step.Name])...)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("stack %s: %w: %w", p.Stack.Name, runtime.ErrInvalid, found)
}
