package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Core is the manager as sessions of nodes need it.
func (m *Manager) Core() dispatch.Core { return core{m} }

type core struct{ m *Manager }

func (c core) Changed() <-chan struct{}                   { return c.m.Changed() }
func (c core) Assignments(node string) []stack.Assignment { return c.m.Assignments(node) }
func (c core) Verify(ctx context.Context) error           { return c.m.Verify(ctx) }

// Topics fits dispatch.Core.
func (c core) Topics(node string) []string { return c.m.Topics(node) }

// Directory fits dispatch.Core.
func (c core) Directory(topic string, keys []string) *stack.Directory {
	return c.m.Directory(topic, keys)
}

func (c core) Hello(ctx context.Context, node string, d dispatch.Description) error {
	d.Node.ID = node
	err := c.m.Hello(ctx, d.Node)
	if errors.Is(err, runtime.ErrInvalid) {
		return fmt.Errorf("%w: %w", dispatch.ErrRefused, err)
	}
	return err
}

// Report leaves out tasks of other nodes: each node speaks for its own.
func (c core) Report(ctx context.Context, node string, reports []stack.TaskReport) error {
	snap := c.m.store.Snapshot()
	own := make([]stack.TaskReport, 0, len(reports))
	for _, r := range reports {
		if t := snap.Task(r.Task); t != nil && t.Node == node {
			own = append(own, r)
		}
	}
	return c.m.Report(ctx, own)
}

// View is what every node is told of the cluster.
func (c core) View() dispatch.View {
	snap := c.m.store.Snapshot()
	v := dispatch.View{Cluster: snap.Cluster().ID, Networks: c.m.Networks()}
	if ca := snap.Cluster().CA; ca != nil {
		v.Roots = RootsDigest(ca.Roots)
	}
	v.Workers = snap.Cluster().Settings.Labels[WorkerRequests]
	keys, err := c.m.GossipKeys()
	if err != nil {
		c.m.log.Error("keys of the gossip", "error", err)
	}
	v.Keys = keys
	v.Port = snap.Cluster().Settings.DataPathPort
	for _, n := range snap.Nodes() {
		v.Nodes = append(v.Nodes, dispatch.Node{
			ID: n.ID, Hostname: n.Hostname, Addr: n.Addr, Gossip: n.Gossip, Role: n.Role, Down: n.Down,
			DataAddr: n.DataAddr, Number: n.Number, MTU: n.MTU, Addrs: n.Addrs,
		})
	}
	return v
}

// WorkerRequests is the cluster's label that says what workers may ask of other
// nodes: "none" keeps commands for the cluster to the sockets of managers.
const WorkerRequests = "dhow.worker-requests"

// MayAsk reports whether requests that a node passes on are to be answered.
func (m *Manager) MayAsk(node string) bool {
	snap := m.store.Snapshot()
	n, c := snap.Node(node), snap.Cluster()
	return n != nil && c != nil && (n.Role == stack.RoleManager || c.Settings.Labels[WorkerRequests] != "none")
}

// RootsDigest tells two bundles of roots apart.
func RootsDigest(roots []byte) string {
	sum := sha256.Sum256(roots)
	return hex.EncodeToString(sum[:])
}

// Touched tells the sessions whom the changes after an index concern. A stack,
// service, network, secret or config concerns the nodes that run its tasks.
func (c core) Touched(since uint64) dispatch.Touched {
	list, now, ok := c.m.store.Since(since)
	out := dispatch.Touched{Index: now}
	if !ok {
		out.All, out.View = true, true
		return out
	}
	out.Nodes = map[string][]string{}
	var stacks map[string]bool
	for _, t := range list {
		switch t.Table {
		case state.TableTask:
			if ids, seen := out.Nodes[t.Node]; t.Node != "" && (!seen || ids != nil) {
				out.Nodes[t.Node] = append(ids, t.Key)
			}
		case state.TableEndpoint: // its node's topics may be others now
			if _, seen := out.Nodes[t.Node]; !seen {
				out.Nodes[t.Node] = []string{}
			}
		case state.TableNode, state.TableCluster:
			out.View = true
		case state.TableNetwork:
			out.View = true
			stacks = add(stacks, t.Stack)
		case state.TableSecret, state.TableConfig, state.TableStack, state.TableService:
			stacks = add(stacks, t.Stack)
		}
	}
	snap := c.m.store.Snapshot()
	out.Topics = c.topics(snap, list)
	for _, name := range sortedKeys(stacks) {
		for _, t := range snap.Tasks(name) {
			if t.Node != "" {
				out.Nodes[t.Node] = nil
			}
		}
	}
	return out
}

func add(set map[string]bool, key string) map[string]bool {
	if key == "" {
		return set
	}
	if set == nil {
		set = map[string]bool{}
	}
	set[key] = true
	return set
}

// Index fits dispatch.Core.
func (c core) Index() uint64 { return c.m.Index() }

// Verify returns when everything that was acknowledged before the call can be read here.
func (m *Manager) Verify(ctx context.Context) error { return leadership(m.raft.Verify(ctx)) }
