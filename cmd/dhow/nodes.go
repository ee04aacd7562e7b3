package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// nodes is what a command has learned about the nodes of the cluster.
type nodes struct {
	mu     sync.Mutex
	host   map[string]string // guarded by mu; hostname by container ID
	id     map[string]string // guarded by mu; node ID by container ID
	silent map[string]string // guarded by mu; why the last list leaves a node out, by node ID
	many   bool              // guarded by mu; there is more than one node
	warned map[string]bool   // guarded by mu; nodes that are left out, which was said
}

// learn notes where containers are, and says once which nodes are left out.
func (a *app) learn(list []api.Container, missing []api.Missing) {
	n := &a.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		n.host, n.id = map[string]string{}, map[string]string{}
	}
	if n.warned == nil {
		n.warned = map[string]bool{}
	}
	n.silent = map[string]string{}
	first := ""
	for _, ct := range list {
		if ct.Node == nil {
			continue
		}
		if first == "" {
			first = ct.Node.ID
		}
		n.many = n.many || ct.Node.ID != first
		n.host[ct.ID], n.id[ct.ID] = ct.Node.Hostname, ct.Node.ID
	}
	n.many = n.many || len(missing) > 0
	for _, m := range missing {
		n.silent[m.Node] = m.Reason
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

// onNode reports whether a container is on a node, given by hostname, ID or the beginning of that.
func (a *app) onNode(id, node string) bool {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	return a.nodes.host[id] == node || a.nodes.id[id] != "" && strings.HasPrefix(a.nodes.id[id], node)
}

// isSilent reports whether the last list of containers leaves a node out, and why.
func (a *app) isSilent(node string) (why string, silent bool) {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	why, silent = a.nodes.silent[node]
	return why, silent
}

// someSilent reports whether the last list of containers leaves nodes out.
func (a *app) someSilent() bool {
	a.nodes.mu.Lock()
	defer a.nodes.mu.Unlock()
	return len(a.nodes.silent) > 0
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
	host := a.hostOf(id)
	a.leaveOut(host, whyGone(host, err))
	return true
}

// whyGone is what happened to a node whose name is said beside it.
func whyGone(host string, err error) string {
	var cut *client.Cut
	if errors.As(err, &cut) && host != "" {
		return "connection lost"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "does not answer"
	}
	return strings.TrimPrefix(message(err), "node "+host+": ")
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
