package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// nodes is what a command has learned about the nodes of the cluster.
type nodes struct {
	mu     sync.Mutex
	host   map[string]string // guarded by mu; hostname by container ID
	many   bool              // guarded by mu; there is more than one node
	warned map[string]bool   // guarded by mu; nodes that are left out, which was said
}

// learn notes where containers are, and says once which nodes are left out.
func (a *app) learn(list []api.Container, missing []api.Missing) {
	n := &a.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		n.host, n.warned = map[string]string{}, map[string]bool{}
	}
	first := ""
	for _, ct := range list {
		if ct.Node == nil {
			continue
		}
		if first == "" {
			first = ct.Node.ID
		}
		n.many = n.many || ct.Node.ID != first
		n.host[ct.ID] = ct.Node.Hostname
	}
	n.many = n.many || len(missing) > 0
	for _, m := range missing {
		name := m.Hostname
		if name == "" {
			name = m.Node
		}
		if !n.warned[name] {
			n.warned[name] = true
			fmt.Fprintf(a.err, "warning: node %s is left out: %s\n", name, m.Reason)
		}
	}
}

// hostOf is the hostname of a container's node; "" where that is not known.
func (a *app) hostOf(id string) string {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	return a.nodes.host[id]
}

// manyNodes says whether naming nodes tells anything.
func (a *app) manyNodes() bool {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	return a.nodes.many
}

// lost reports whether err is that the node of a container went, or cannot be
// reached: the others go on. It says so, once for each node.
func (a *app) lost(id string, err error) bool {
	var cut *client.Cut
	if !client.IsUnavailable(err) && (!errors.As(err, &cut) || !a.manyNodes()) {
		return false
	}
	a.leaveOut(a.hostOf(id), message(err))
	return true
}

func (a *app) leaveOut(host, why string) {
	n := &a.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.warned == nil {
		n.warned = map[string]bool{}
	}
	if host == "" {
		fmt.Fprintf(a.err, "warning: %s\n", why)
		return
	}
	if !n.warned[host] {
		n.warned[host] = true
		fmt.Fprintf(a.err, "warning: node %s is left out: %s\n", host, why)
	}
}

// back forgets that a node was left out: when it goes again, that is said again.
func (a *app) back(host string) {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	delete(a.nodes.warned, host)
}
