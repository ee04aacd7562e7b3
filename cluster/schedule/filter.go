package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// test returns "" when the node can take the task, else what is amiss in words
// that follow a number of nodes.
func (c *Cluster) test(r Request, n *stack.Node) string {
	if r.Task.Pin != "" && r.Task.Pin != n.ID {
		return "not the node of this task"
	}
	switch {
	case n.Down:
		return "down"
	case n.Availability == stack.Drain:
		return "drained"
	case n.Availability == stack.Paused:
		return "paused"
	}
	if miss := Fits(r.Service, n); miss != "" {
		return miss
	}
	return c.resources(r, n)
}

// Fits tests what does not depend on other tasks: platform and constraints.
func Fits(s *stack.Service, n *stack.Node) string {
	if miss := platform(s.Container.Platform, n); miss != "" {
		return miss
	}
	for _, expr := range s.Deploy.Constraints {
		ok, err := match(expr, n)
		if err != nil {
			return err.Error()
		}
		if !ok {
			return fmt.Sprintf("not matching %q", expr)
		}
	}
	return ""
}

func platform(want string, n *stack.Node) string {
	os, arch, _ := strings.Cut(want, "/")
	arch, _, _ = strings.Cut(arch, "/")
	if os != "" && n.OS != "" && os != n.OS || arch != "" && n.Architecture != "" && arch != n.Architecture {
		return "of another platform (want " + want + ")"
	}
	return ""
}

// resources tests what the node has not promised yet; what it does not know of itself is not limited.
func (c *Cluster) resources(r Request, n *stack.Node) string {
	u, want := c.used[n.ID], r.Service.Container.Resources
	if want.ReservedMemory > 0 && n.Memory > 0 && u.Memory+want.ReservedMemory > n.Memory {
		return fmt.Sprintf("lacks memory (want %s)", size(want.ReservedMemory))
	}
	if want.ReservedNanoCPUs > 0 && n.NanoCPUs > 0 && u.NanoCPUs+want.ReservedNanoCPUs > n.NanoCPUs {
		return fmt.Sprintf("lacks CPU (want %g)", float64(want.ReservedNanoCPUs)/1e9)
	}
	for _, kind := range slices.Sorted(maps.Keys(want.Generic)) {
		if u.Generic[kind]+want.Generic[kind] > n.Generic[kind] {
			return fmt.Sprintf("lacks %s (want %d)", kind, want.Generic[kind])
		}
	}
	if limit := r.Service.Deploy.MaxReplicasPerNode; limit > 0 && u.ByService[serviceKey(r.Task)] >= limit {
		return fmt.Sprintf("at max_replicas_per_node (%d)", limit)
	}
	return ""
}

// size prints bytes in the largest binary unit that divides them.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && n >= 1024 && n%1024 == 0 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%d%s", n, units[i])
}
