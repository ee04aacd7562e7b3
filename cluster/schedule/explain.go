package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// explain is "web.2: no node fits: 3 lack memory (want 512MiB), 1 drained".
// Each node is counted under the first test that it fails.
func (c *Cluster) explain(w *want) string {
	why := c.reason(w)
	if w.plain() {
		w.need.why, w.need.whyAt, w.need.whySig = why, c.changes.now(), w.signature()
	}
	return w.named() + why
}

// named is "web.2: no node fits: ".
func (w *want) named() string {
	return fmt.Sprintf("%s.%d: %s: ", w.task.Service, w.task.Slot, stack.NoNodeFits)
}

// refused repeats a refusal that nothing has changed about since.
func (c *Cluster) refused(w *want) (string, bool) {
	n := w.need
	if n.why == "" || n.whyAt != c.changes.now() || !w.plain() || n.social || n.whySig != w.signature() {
		return "", false
	}
	return w.named() + n.why, true
}

func (c *Cluster) reason(w *want) string {
	if w.need.filter.bad != nil {
		return w.need.filter.bad.Error()
	}
	hosts := c.hosts
	if w.pin != "" {
		h := c.byID[w.pin]
		if h == nil || h.node == nil {
			return "its node " + w.pin + " is not in the cluster"
		}
		hosts = []*host{h}
	}
	if len(hosts) == 0 {
		return "there is none"
	}
	return w.counts(hosts)
}

func (w *want) counts(hosts []*host) string {
	count := map[verdict]int{}
	for _, h := range hosts {
		count[w.test(h)]++
	}
	type line struct {
		n    int
		text string
	}
	var lines []line
	for v, n := range count {
		lines = append(lines, line{n, w.words(v, n > 1)})
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.text, b.text))
	})
	parts := make([]string, len(lines))
	for i, l := range lines {
		parts[i] = fmt.Sprintf("%d %s", l.n, l.text)
	}
	return strings.Join(parts, ", ")
}

// words follow a number of nodes, several or one.
func (w *want) words(v verdict, several bool) string {
	has, lacks, runs := "has", "lacks", "runs"
	if several {
		has, lacks, runs = "have", "lack", "run"
	}
	switch v.test {
	case isDown:
		return "down"
	case isDrained:
		return "drained"
	case isPaused:
		return "paused"
	case offHome:
		return fmt.Sprintf("without the files of its bind mounts (they are on %s)", w.c.name(w.home))
	case lacksVolume:
		return fmt.Sprintf("%s not volume %s (%s)", has, w.volumes[v.index].Name, w.whereabouts(&w.volumes[v.index]))
	case offMate:
		m := w.mates[v.index].Task
		return fmt.Sprintf("not the node of %s.%d, with which it shares (%s)", m.Service, m.Slot, w.c.name(m.Node))
	case unfitMate:
		return fmt.Sprintf("not fit for %s, with which it shares", shortName(w.needs[v.index].service, w.need.service))
	case isShunned:
		return fmt.Sprintf("%s a service that keeps away from this one", runs)
	case portTaken:
		return fmt.Sprintf("%s port %s taken%s", has, w.sum.ports[v.index], w.holder(w.sum.ports[v.index]))
	case atLimit:
		return fmt.Sprintf("at max_replicas_per_node (%d)", w.need.limit)
	case lacksMemory:
		return fmt.Sprintf("%s memory (want %s%s)", lacks, size(w.sum.memory), w.together())
	case lacksCPU:
		return fmt.Sprintf("%s CPU (want %g%s)", lacks, float64(w.sum.cpu)/1e9, w.together())
	case lacksGeneric:
		g := w.sum.generic[v.index]
		return fmt.Sprintf("%s %s (want %d%s)", lacks, g.kind, g.n, w.together())
	}
	return w.unmatched(v)
}

// holder is " (by db)" when one service has the port wherever it is taken.
func (w *want) holder(p hostPort) string {
	name := ""
	for _, h := range w.c.hosts {
		for o := range h.ports {
			switch {
			case !o.conflicts(p) || o.owner == name:
			case name != "" || o.owner == "":
				return ""
			default:
				name = o.owner
			}
		}
	}
	if name == "" {
		return ""
	}
	return " (by " + shortName(name, w.need.service) + ")"
}

// unmatched are the words for what the file itself asks of a node.
func (w *want) unmatched(v verdict) string {
	f := w.need.filter
	switch v.test {
	case ofOtherPlatform:
		return fmt.Sprintf("of another platform (want %s)", f.platform)
	case ofOtherImage:
		return fmt.Sprintf("of another platform (the image is for %s)", strings.Join(w.platforms, ", "))
	case offConstraint:
		return fmt.Sprintf("not matching %q", f.texts[v.index])
	case offService:
		return fmt.Sprintf("not matching %q", w.need.near[v.index].text)
	}
	return "passed over" // cannot be: a host that passes is taken
}

// together names the mates whose needs are in the sum.
func (w *want) together() string {
	if len(w.needs) == 0 {
		return ""
	}
	var names []string
	for _, n := range w.needs {
		names = append(names, shortName(n.service, w.need.service))
	}
	slices.Sort(names)
	return " together with " + strings.Join(slices.Compact(names), ", ")
}

// whereabouts says where a volume is.
func (w *want) whereabouts(v *Volume) string {
	if at := w.nodeOf(v); at != "" {
		return "it is on " + w.c.name(at)
	}
	if len(v.Nodes) == 0 {
		return "no node has: make it with volume create"
	}
	var names []string
	for _, id := range v.Nodes {
		names = append(names, w.c.name(id))
	}
	slices.Sort(names)
	return "it is on " + strings.Join(names, ", ")
}

// name is what a person calls a node.
func (c *Cluster) name(id string) string {
	h := c.byID[id]
	switch {
	case h == nil || h.node == nil:
		return "node " + id + ", which is not in the cluster"
	case h.node.Hostname == "":
		return "node " + id
	}
	return h.node.Hostname
}

// shortName leaves out the stack when it is that of another service.
func shortName(key, beside string) string {
	prefix, _, _ := strings.Cut(beside, "/")
	return strings.TrimPrefix(key, prefix+"/")
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
