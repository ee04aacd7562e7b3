package server

import (
	"context"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

func (s *server) listNodes(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "id", "label", "membership", "name", "node.label", "role")
	if err != nil {
		return err
	}
	for _, role := range f["role"] {
		if role != "manager" && role != "worker" {
			return invalid("invalid role filter: '%s'", role)
		}
	}
	all, err := s.Cluster.Nodes(r.Context())
	if err != nil {
		return err
	}
	out := []api.Node{}
	for i := range all {
		n := &all[i]
		if f.prefix("id", n.ID) && f.prefix("name", n.Hostname) && f.exact("role", string(roleOf(&n.Node))) && f.exact("membership", "accepted") &&
			f.any("label", func(want string) bool { return hasLabel(n.EngineLabels, want) }) &&
			f.any("node.label", func(want string) bool { return hasLabel(n.Labels, want) }) {
			out = append(out, toNode(n))
		}
	}
	return ok(w, out)
}

func roleOf(n *stack.Node) stack.Role {
	if n.Role == "" {
		return stack.RoleWorker
	}
	return n.Role
}

func (s *server) getNode(w http.ResponseWriter, r *http.Request) error {
	n, err := s.Cluster.Node(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return ok(w, toNode(&n))
}

func (s *server) updateNode(w http.ResponseWriter, r *http.Request) error {
	var req swarm.NodeSpec
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	version, err := strconv.ParseUint(r.URL.Query().Get("version"), 10, 64)
	if err != nil {
		return invalid("invalid node version '%s'", r.URL.Query().Get("version"))
	}
	if req.Name != "" {
		return invalid("Name: a node is called as its machine, %q cannot be set", req.Name)
	}
	spec := cluster.NodeSpec{Role: stack.Role(req.Role), Labels: req.Labels}
	if spec.Role != stack.RoleManager && spec.Role != stack.RoleWorker {
		return invalid("invalid Role: %q, only manager and worker are supported", req.Role)
	}
	if spec.Availability, err = toAvailability(req.Availability); err != nil {
		return err
	}
	if err := s.Cluster.UpdateNode(r.Context(), r.PathValue("id"), version, spec); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) removeNode(w http.ResponseWriter, r *http.Request) error {
	if err := s.Cluster.RemoveNode(r.Context(), r.PathValue("id"), flag(r, "force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// dockerArch are the words that Docker's nodes use for Go's architectures.
var dockerArch = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}

func toNode(n *cluster.NodeStatus) api.Node {
	host := n.Addr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = strings.Trim(host[:i], "[]")
	}
	out := swarm.Node{
		ID: n.ID, Meta: meta(n.Version, n.Created, n.Updated),
		Spec: swarm.NodeSpec{Annotations: swarm.Annotations{Labels: mergeLabels(n.Labels, nil)},
			Role: swarm.NodeRole(roleOf(&n.Node)), Availability: swarm.NodeAvailability(first(string(n.Availability), "active"))},
		Description: swarm.NodeDescription{
			Hostname: n.Hostname, Platform: swarm.Platform{OS: n.OS, Architecture: first(dockerArch[n.Architecture], n.Architecture)},
			Resources: swarm.Resources{NanoCPUs: n.NanoCPUs, MemoryBytes: n.Memory, GenericResources: toGeneric(n.Generic)},
			Engine:    swarm.EngineDescription{EngineVersion: n.Node.Version, Labels: n.EngineLabels},
			TLSInfo:   swarm.TLSInfo{TrustRoot: string(n.Roots), CertIssuerSubject: n.IssuerSubject, CertIssuerPublicKey: n.IssuerKey},
		},
		Status: swarm.NodeStatus{State: swarm.NodeStateReady, Addr: host, Message: n.Message},
	}
	if n.Down {
		out.Status.State = swarm.NodeStateDown
	}
	if roleOf(&n.Node) == stack.RoleManager {
		out.ManagerStatus = &swarm.ManagerStatus{Leader: n.Leader, Reachability: swarm.ReachabilityReachable, Addr: n.Addr}
		if !n.Reachable && !n.Leader {
			out.ManagerStatus.Reachability = swarm.ReachabilityUnreachable
		}
	}
	return api.Node{Node: out, Network: api.NodeNetwork{Number: n.Number, DataAddr: n.DataAddr, MTU: n.MTU, Problems: n.Problems}}
}

func toGeneric(have map[string]int64) (out []swarm.GenericResource) {
	for kind, value := range have {
		out = append(out, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: kind, Value: value}})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].DiscreteResourceSpec.Kind < out[j].DiscreteResourceSpec.Kind })
	return out
}

// describeSwarm fills docker info's section about the cluster, from what this node has.
func (s *server) describeSwarm(ctx context.Context, out *system.Info) {
	if s.Cluster == nil {
		return
	}
	local := s.Cluster.Local()
	if local.State == cluster.Alone {
		return
	}
	host := local.Advertise
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = strings.Trim(host[:i], "[]")
	}
	sw := &out.Swarm
	sw.NodeID, sw.NodeAddr, sw.Error = s.Cluster.Self(), host, local.Error
	sw.LocalNodeState, sw.ControlAvailable = swarm.LocalNodeState(local.State), local.Manager
	if local.Manager { // Docker lists a manager among its own
		sw.RemoteManagers = append(sw.RemoteManagers, swarm.Peer{NodeID: s.Cluster.Self(), Addr: local.Advertise})
	}
	for _, m := range local.Managers {
		sw.RemoteManagers = append(sw.RemoteManagers, swarm.Peer{NodeID: m.ID, Addr: m.Addr})
	}
	if !local.Manager {
		return
	}
	if nodes, err := s.Cluster.Nodes(ctx); err == nil { // of this node's copy: info never waits
		sw.Nodes = len(nodes)
		for i := range nodes {
			if roleOf(&nodes[i].Node) == stack.RoleManager {
				sw.Managers++
			}
		}
	}
	if c, err := s.Cluster.Swarm(ctx); err == nil {
		info := toClusterInfo(&c)
		sw.Cluster = &info
	}
}

// swarmWord is what the Swarm header of a ping says.
func (s *server) swarmWord() string {
	if s.Cluster == nil {
		return "inactive"
	}
	local := s.Cluster.Local()
	switch {
	case local.State != cluster.Joined:
		return string(local.State)
	case local.Manager:
		return "active/manager"
	}
	return "active/worker"
}
