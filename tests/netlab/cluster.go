package netlab

import (
	"net"
	"strings"
	"sync"
)

// Cluster makes hosts that are one cluster: managers first, then workers.
func (l *Lab) Cluster(managers, workers int, flags ...string) []*Host {
	l.t.Helper()
	hosts := make([]*Host, managers+workers)
	for i := range hosts { // one after the other: namespaces get their numbers in order
		hosts[i] = l.newHost("")
	}
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() { h.Start(flags...) })
	}
	wg.Wait()
	if l.t.Failed() {
		l.t.FailNow()
	}
	hosts[0].Dhow("swarm", "init", "--advertise-addr", hosts[0].Addr)
	for i, h := range hosts[1:] {
		role := "manager"
		if i+1 >= managers {
			role = "worker"
		}
		h.Join(hosts[0], role)
	}
	return hosts
}

// Token asks a manager for a join token.
func (h *Host) Token(role string) string {
	h.t.Helper()
	return strings.TrimSpace(h.Dhow("swarm", "join-token", "--quiet", role))
}

// Join makes the host part of another's cluster, as "manager" or "worker".
func (h *Host) Join(other *Host, role string) {
	h.t.Helper()
	h.Dhow("swarm", "join", "--token", other.Token(role), net.JoinHostPort(other.Addr, "2377"))
}

// NodeID is the host's ID in its cluster.
func (h *Host) NodeID() string {
	h.t.Helper()
	return strings.TrimSpace(h.Dhow("node", "inspect", "self", "--format", "{{.ID}}"))
}
