package address

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String says who has what, one line for each address and host port, sorted.
func (b *Books) String() string {
	var lines []string
	for _, n := range b.networks {
		for s, list := range map[string]map[string]string{"": n.hosts.Holders(), " virtual": n.virtual.Holders()} {
			for a, who := range list {
				lines = append(lines, fmt.Sprintf("%s%s %s: %s", n.network.Name, s, a, who))
			}
		}
	}
	for p, services := range b.ports {
		lines = append(lines, fmt.Sprintf("port %d/%s: %s", p.number, p.proto, strings.Join(slices.Sorted(maps.Keys(services)), ", ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
