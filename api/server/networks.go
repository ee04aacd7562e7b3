package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func (s *server) networkRoutes() {
	s.handle("GET /networks", s.listNetworks)
	s.onLeader("POST /networks/create", once, s.createNetwork)
	s.onLeader("POST /networks/prune", again, s.pruneNetworks)
	s.handle("GET /networks/{id}", s.inspectNetwork)
	s.onLeader("DELETE /networks/{id}", again, s.removeNetwork)
	s.handle("POST /networks/{id}/connect", s.connectNetwork)
	s.handle("POST /networks/{id}/disconnect", s.disconnectNetwork)
}

// builtinID is the ID of a network that exists on every node.
func builtinID(name string) string {
	sum := sha256.Sum256([]byte("dhow network " + name))
	return hex.EncodeToString(sum[:])
}

// networks are the replicated ones and host and none, which every node has. A
// node that does not lead has those of the leader, or if there is none its own copy.
func (s *server) networks(w http.ResponseWriter, r *http.Request) []stack.Network {
	all := s.replicatedNetworks(w, r)
	have := map[string]bool{}
	for _, n := range all {
		have[n.Name] = true
	}
	for _, name := range []string{"host", "none"} {
		if !have[name] {
			all = append(all, stack.Network{Name: name, ID: builtinID(name), Driver: map[string]string{"host": "host", "none": "null"}[name]})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

func (s *server) replicatedNetworks(w http.ResponseWriter, r *http.Request) []stack.Network {
	if s.alone(r) {
		return s.Networks.Networks()
	}
	kind := "stale"
	defer func() { s.sayConsistency(w, kind) }()
	leader, known := s.Cluster.Leader()
	if stale, err := wantsStale(r); stale || err != nil || !known {
		return s.Networks.Networks()
	}
	ctx, cancel := context.WithTimeout(r.Context(), downTime)
	defer cancel()
	var all []stack.Network
	if leader == s.Cluster.Self() {
		if s.Cluster.Verify(ctx) == nil {
			kind = "consistent"
		}
	} else if s.fetch(ctx, leader, "/dhow/v1/networks", &all) == nil {
		kind = "consistent"
		return all
	}
	return s.Networks.Networks()
}

// network finds one by name, ID or unique beginning of an ID.
func (s *server) network(w http.ResponseWriter, r *http.Request, ref string) (stack.Network, error) {
	all := s.networks(w, r)
	for _, n := range all {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
	}
	var found []stack.Network
	for _, n := range all {
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return stack.Network{}, notFound("network %s not found", ref)
	}
	return stack.Network{}, invalid("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

func isBuiltin(name string) bool {
	return name == defaultNetwork || name == "host" || name == "none"
}

func (s *server) listNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, isDangling, err := f.truthOf("dangling")
	if err != nil {
		return err
	}
	for _, typ := range f["type"] {
		if typ != "custom" && typ != "builtin" {
			return invalid("invalid filter 'type=%s'", typ)
		}
	}
	used, err := s.networkUsers(r)
	if err != nil {
		return err
	}
	out := []network.Inspect{}
	for _, n := range s.networks(w, r) {
		typ := "custom"
		if isBuiltin(n.Name) {
			typ = "builtin"
		}
		if isDangling && (isBuiltin(n.Name) || dangling != (len(used[n.Name]) == 0)) {
			continue
		}
		if f.pattern("name", n.Name) && f.prefix("id", n.ID) && f.labels(n.Labels) && f.exact("type", typ) &&
			f.exact("driver", driverOf(&n)) && f.exact("scope", scopeOf(&n)) {
			out = append(out, network.Inspect{Network: toNetwork(&n), Containers: map[string]network.EndpointResource{}})
		}
	}
	return ok(w, out)
}

func driverOf(n *stack.Network) string { return first(n.Driver, "bridge") }

func toNetwork(n *stack.Network) network.Network {
	out := network.Network{
		Name: n.Name, ID: n.ID, Created: time.Unix(0, n.Created).UTC(), Scope: scopeOf(n), Driver: driverOf(n),
		EnableIPv4: n.EnableIPv4 == nil || *n.EnableIPv4, EnableIPv6: n.EnableIPv6, Internal: n.Internal, Attachable: n.Attachable, Ingress: isIngress(n),
		IPAM:    network.IPAM{Driver: first(n.IPAMDriver, "default"), Options: mergeLabels(n.IPAMOpts, nil), Config: []network.IPAMConfig{}},
		Options: mergeLabels(n.DriverOpts, nil), Labels: mergeLabels(n.Labels, nil),
	}
	for _, sub := range n.Subnets {
		c := network.IPAMConfig{Gateway: parseAddr(sub.Gateway)}
		c.Subnet, _ = netip.ParsePrefix(sub.CIDR)
		c.IPRange, _ = netip.ParsePrefix(sub.Range)
		for name, a := range sub.Aux {
			if c.AuxAddress == nil {
				c.AuxAddress = map[string]netip.Addr{}
			}
			c.AuxAddress[name] = parseAddr(a)
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	return out
}

// networkUsers are the live containers by the name of their network.
func (s *server) networkUsers(r *http.Request) (map[string][]runtime.Container, error) {
	all, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return nil, err
	}
	used := map[string][]runtime.Container{}
	for _, c := range all {
		if !alive(c.State.Status) {
			continue
		}
		for _, e := range c.Endpoints {
			used[e.Network] = append(used[e.Network], c)
		}
	}
	return used, nil
}

func (s *server) inspectNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := s.network(w, r, r.PathValue("id"))
	if err != nil {
		return err
	}
	if scope := r.URL.Query().Get("scope"); scope != "" && scope != scopeOf(&n) {
		return notFound("network %s not found", r.PathValue("id"))
	}
	used, err := s.networkUsers(r)
	if err != nil {
		return err
	}
	out := network.Inspect{Network: toNetwork(&n), Containers: map[string]network.EndpointResource{}}
	for _, c := range used[n.Name] {
		for _, e := range c.Endpoints {
			if e.Network != n.Name {
				continue
			}
			res := network.EndpointResource{Name: c.Name, EndpointID: e.EndpointID, MacAddress: mac(e.MacAddress)}
			res.IPv4Address, _ = netip.ParsePrefix(e.IPv4)
			res.IPv6Address, _ = netip.ParsePrefix(e.IPv6)
			out.Containers[c.ID] = res
		}
	}
	if v, known := s.networkView(r, &n); known {
		out.Peers = peersOf(&v)
		if flag(r, "verbose") {
			out.Services = servicesOf(&v)
		}
	}
	return ok(w, out)
}

// createNetworkRequest has what older clients also send.
type createNetworkRequest struct {
	network.CreateRequest
	CheckDuplicate bool // names have always been unique here
}

func (s *server) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var req createNetworkRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	n, err := toStackNetwork(&req)
	if err != nil {
		return err
	}
	if isBuiltin(n.Name) || n.Name == "default" {
		return say(runtime.ErrForbidden, "operation is not permitted on predefined %s network", n.Name)
	}
	if _, taken := s.Networks.Network(n.Name); taken {
		return say(runtime.ErrConflict, "network with name %s already exists", n.Name)
	}
	made, err := s.Networks.CreateNetwork(r.Context(), n)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, network.CreateResponse{ID: made.ID})
	return nil
}

// toStackNetwork honours or refuses every field of a request.
func toStackNetwork(req *createNetworkRequest) (stack.Network, error) {
	n := stack.Network{Name: req.Name, Driver: req.Driver, DriverOpts: req.Options, Labels: req.Labels,
		Internal: req.Internal, Attachable: req.Attachable, EnableIPv4: req.EnableIPv4}
	n.EnableIPv6 = req.EnableIPv6 != nil && *req.EnableIPv6
	switch {
	case req.Name == "":
		return n, invalid("Name: a network needs a name")
	case req.Ingress:
		return n, invalid("Ingress is not supported: published ports need no network of their own")
	case req.ConfigOnly:
		return n, invalid("ConfigOnly is not supported")
	case req.ConfigFrom != nil && req.ConfigFrom.Network != "":
		return n, invalid("ConfigFrom is not supported")
	case req.Scope != "" && req.Scope != "local" && req.Scope != "swarm":
		return n, invalid("Scope: unknown scope %q", req.Scope)
	case req.Driver != "" && req.Driver != "bridge" && req.Driver != "overlay":
		return n, notFound("could not find plugin %s in v1 plugin registry: plugin not found; there are bridge and overlay", req.Driver)
	}
	if req.IPAM == nil {
		return n, nil
	}
	if d := req.IPAM.Driver; d != "" && d != "default" {
		return n, invalid("IPAM.Driver: unknown driver %q; there is default", d)
	}
	n.IPAMOpts = req.IPAM.Options
	for _, c := range req.IPAM.Config {
		n.Subnets = append(n.Subnets, toSubnet(c))
	}
	return n, nil
}

func toSubnet(c network.IPAMConfig) stack.Subnet {
	sub := stack.Subnet{Gateway: addr(c.Gateway)}
	if c.Subnet.IsValid() {
		sub.CIDR = c.Subnet.String()
	}
	if c.IPRange.IsValid() {
		sub.Range = c.IPRange.String()
	}
	for name, a := range c.AuxAddress {
		if sub.Aux == nil {
			sub.Aux = map[string]string{}
		}
		sub.Aux[name] = addr(a)
	}
	return sub
}

func (s *server) removeNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := s.network(w, r, r.PathValue("id"))
	if err != nil {
		return err
	}
	if isBuiltin(n.Name) {
		return say(runtime.ErrForbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	used, err := s.networkUsers(r)
	if err != nil {
		return err
	}
	if names := s.usersElsewhere(r, n.ID, used[n.Name]); len(names) > 0 {
		return say(runtime.ErrForbidden, "error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(names, ", "))
	}
	return noContent(w, s.Networks.RemoveNetwork(r.Context(), n.ID))
}

// usersElsewhere are the names of the containers that live in a network: those
// given, of this node, and those of all other nodes that answer.
func (s *server) usersElsewhere(r *http.Request, id string, here []runtime.Container) []string {
	names := []string{}
	for _, c := range here {
		names = append(names, c.Name)
	}
	if s.Cluster == nil || len(names) > 0 {
		return names
	}
	s.askAll(r.Context(), "/networks/"+id, func(_ cluster.Peer, body io.Reader) error {
		var there network.Inspect
		if err := json.NewDecoder(body).Decode(&there); err != nil {
			return err
		}
		for _, c := range there.Containers {
			names = append(names, c.Name)
		}
		return nil
	})
	sort.Strings(names)
	return names
}

func (s *server) pruneNetworks(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	used, err := s.networkUsers(r)
	if err != nil {
		return err
	}
	report := network.PruneReport{NetworksDeleted: []string{}}
	for _, n := range s.Networks.Networks() {
		young := !until.IsZero() && time.Unix(0, n.Created).After(until)
		if isBuiltin(n.Name) || n.Stack != "" || len(used[n.Name]) > 0 || !f.labels(n.Labels) || young {
			continue // a stack's networks live and go with it
		}
		if len(s.usersElsewhere(r, n.ID, nil)) > 0 {
			continue
		}
		err := s.Networks.RemoveNetwork(r.Context(), n.ID)
		if errors.Is(err, runtime.ErrConflict) || errors.Is(err, runtime.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
	}
	return ok(w, report)
}

func (s *server) connectNetwork(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.passUser(w, r); done {
		return err
	}
	var req network.ConnectRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	engine, can := s.Engine.(connector)
	if !can {
		return notYet("connecting a running container to a network")
	}
	n, err := s.network(w, r, r.PathValue("id"))
	if err != nil {
		return err
	}
	if n.Name == "host" || n.Name == "none" {
		return say(runtime.ErrForbidden, "container cannot be connected to the %s network", n.Name)
	}
	if ep := req.EndpointConfig; ep != nil && len(ep.Links) > 0 {
		return invalid("EndpointConfig.Links is not supported: %s", createRules["NetworkingConfig.EndpointsConfig.Links"].refused)
	}
	if err := engine.ConnectNetwork(r.Context(), req.Container, toAttachment(n.Name, req.EndpointConfig)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) disconnectNetwork(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.passUser(w, r); done {
		return err
	}
	var req network.DisconnectRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	engine, can := s.Engine.(connector)
	if !can {
		return notYet("disconnecting a container from a network")
	}
	n, err := s.network(w, r, r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := engine.DisconnectNetwork(r.Context(), req.Container, n.Name, req.Force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
