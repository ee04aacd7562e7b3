package plan

import "github.com/dhow-project/dhow/stack"

// Diff returns what has to happen so that have becomes want.
func Diff(want stack.Stack, have Snapshot, opt Options) *Plan {
	p := &Plan{Stack: want.Clone()}
	for _, name := range want.ServiceNames() {
		p.Steps = append(p.Steps, Step{Action: Create, Kind: Service, Name: name, To: want.Services[name].Replicas})
	}
	return p
}
