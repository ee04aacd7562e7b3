package overlaynet

import (
	"slices"
	"strings"
)

// Warnings says what on this host stands in the way of containers' traffic,
// and what to do about it.
func (m *Manager) Warnings() []string {
	out := m.opt.Rules.Warnings()
	if !m.opt.Links.BridgeFilter() {
		out = append(slices.Clip(out), "the kernel module br_netfilter is missing: names of services lead to their containers instead of to virtual addresses; `modprobe br_netfilter` loads it")
	}
	return out
}

// Problems says what is in the way of containers' traffic on this node now.
func (m *Manager) Problems() []string {
	out := slices.Clone(m.Warnings())
	m.mu.Lock()
	defer m.mu.Unlock()
	out = append(out, m.peerProblemsLocked()...)
	out = append(out, m.blockedProblemsLocked()...)
	for _, what := range sortedKeys(m.trouble) {
		for line := range strings.SplitSeq(m.trouble[what], "\n") {
			out = append(out, what+": "+line)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// note keeps what went wrong with something until it has gone well.
func (m *Manager) note(what string, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if delete(m.trouble, what); err != nil {
		m.trouble[what] = err.Error()
	}
	return err
}
