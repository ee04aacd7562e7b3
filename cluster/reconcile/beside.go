package reconcile

import (
	"fmt"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// stopFirst says why the task of a slot has to stop before another one starts;
// "" when both can run for a while. With elsewhere the other one gets another node.
func (r *round) stopFirst(s *service, sl *slot, elsewhere bool) string {
	if s.Desired == stack.DesiredCreate {
		return "the new one is not to start" // and so never takes over
	}
	if old := s.specOf(sl.main.Version); old == nil || old.Beside(elsewhere) != "" || s.Spec.Exclusive {
		if why := s.Spec.Beside(elsewhere); why != "" {
			return why
		}
	}
	if len(sl.main.AnonymousVolumes()) > 0 {
		return "it has anonymous volumes"
	}
	if key := r.stale(s); key != "" {
		return "network " + key + " is to be replaced"
	}
	for _, other := range s.dependents {
		if slices.Contains(other.Spec.Shares(), s.name) {
			return other.name + " shares its namespaces or volumes"
		}
	}
	if limit := s.Spec.Deploy.MaxReplicasPerNode; limit > 0 && !elsewhere && s.Spec.Mode == stack.Replicated && len(s.keys) >= limit*r.usable(s) {
		return fmt.Sprintf("max_replicas_per_node is %d", limit)
	}
	return ""
}

// usable is how many nodes may take tasks of s now.
func (r *round) usable(s *service) int {
	n := 0
	for _, node := range r.in.Nodes {
		if node.Availability == stack.Active && !node.Down && (r.in.Eligible == nil || r.in.Eligible(s.Spec, node)) {
			n++
		}
	}
	return n
}
