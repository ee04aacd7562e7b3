package overlaynet_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// source is the replicated state of a test. By default the node is alone.
type source struct {
	mu      sync.Mutex
	nets    map[string]stack.Network
	fabric  overlaynet.Fabric
	dirs    map[string]*stack.Directory
	entered map[[2]string]stack.Endpoint // by container and network
	next    map[string]netip.Addr        // by network: what Enter gives
	refuse  error                        // of Enter and Leave
	lost    error                        // of Enter, when it is done
	ch      chan struct{}
}

func newSource(nets ...stack.Network) *source {
	s := &source{
		nets: map[string]stack.Network{}, fabric: overlaynet.Fabric{Known: true, Node: "n1"}, dirs: map[string]*stack.Directory{},
		entered: map[[2]string]stack.Endpoint{}, next: map[string]netip.Addr{}, ch: make(chan struct{}),
	}
	for _, n := range nets {
		if n.ID == "" {
			n.ID = "id-" + n.Name
		}
		s.nets[n.Name] = n
	}
	return s
}

func (s *source) Network(k string) (stack.Network, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nets {
		if n.Name == k || n.ID == k {
			return n, true
		}
	}
	return stack.Network{}, false
}

func (s *source) Networks() (out []stack.Network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nets {
		out = append(out, n)
	}
	return out
}

func (s *source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func (s *source) remove(name string) {
	s.mu.Lock()
	delete(s.nets, name)
	s.mu.Unlock()
	s.change()
}

// set adds a network, or replaces the one of its name.
func (s *source) set(n stack.Network) {
	if n.ID == "" {
		n.ID = "id-" + n.Name
	}
	s.mu.Lock()
	s.nets[n.Name] = n
	s.mu.Unlock()
	s.change()
}

// change says that something has changed.
func (s *source) change() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ch)
	s.ch = make(chan struct{})
}

func (s *source) Fabric() overlaynet.Fabric {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fabric
}

func (s *source) Directory(network string) *stack.Directory {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirs[network]
}

// Enter gives addresses from the tenth of the first subnet on.
func (s *source) Enter(_ context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return e, s.refuse
	}
	k := [2]string{e.ID, e.Network}
	if old, ok := s.entered[k]; ok {
		e.IPv4 = old.IPv4
	} else if e.IPv4 == "" {
		if !s.next[e.Network].IsValid() {
			s.next[e.Network] = netip.MustParsePrefix(s.nets[e.Network].Subnets[0].CIDR).Addr()
			for range 9 {
				s.next[e.Network] = s.next[e.Network].Next()
			}
		}
		s.next[e.Network] = s.next[e.Network].Next()
		e.IPv4 = s.next[e.Network].String()
	}
	s.entered[k] = e
	return e, s.lost
}

func (s *source) Leave(_ context.Context, id, network string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	delete(s.entered, [2]string{id, network})
	return nil
}

func (s *source) inside() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.entered {
		out = append(out, fmt.Sprint(k, e.IPv4, e.Names))
	}
	slices.Sort(out)
	return out
}

func (s *source) refusing(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse = nil; why != "" {
		s.refuse = errors.New(why)
	}
}

func (s *source) losing(answer error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = answer
}

// cluster makes this node n1 of so many.
func (s *source) cluster(nodes int) {
	f := overlaynet.Fabric{Known: true, Node: "n1", Port: 4789, MTU: 1450, Peers: map[string]overlaynet.Peer{}, Mesh: &stack.Network{
		Name: stack.IngressNetwork, ID: "id-ingress", VNI: 4096, Subnets: []stack.Subnet{{CIDR: "10.255.0.0/16"}, {CIDR: "fd00:255::/64"}},
	}}
	for i := 1; i <= nodes; i++ {
		f.Peers[fmt.Sprint("n", i)] = overlaynet.Peer{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Number: uint16(i)}
	}
	s.mu.Lock()
	s.fabric = f
	s.mu.Unlock()
}

// peer changes what is known of one node.
func (s *source) peer(id string, f func(*overlaynet.Peer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.fabric.Peers
	s.fabric.Peers = map[string]overlaynet.Peer{}
	for k, p := range old {
		if k == id {
			f(&p)
		}
		s.fabric.Peers[k] = p
	}
}

// edit replaces a directory by a changed copy.
func (s *source) edit(network string, f func(d *stack.Directory)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &stack.Directory{}
	if old := s.dirs[network]; old != nil {
		d.Endpoints, d.Services, d.Published = slices.Clone(old.Endpoints), slices.Clone(old.Services), slices.Clone(old.Published)
	}
	f(d)
	slices.SortFunc(d.Endpoints, func(a, b stack.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Services, func(a, b stack.ServiceAddress) int { return cmp.Compare(a.Service, b.Service) })
	slices.SortFunc(d.Published, func(a, b stack.Published) int { return cmp.Compare(a.Service, b.Service) })
	s.dirs[network] = d
}

// put adds an endpoint to a directory, or replaces it.
func (s *source) put(network string, e stack.Endpoint) {
	s.edit(network, func(d *stack.Directory) {
		d.Endpoints = append(slices.DeleteFunc(d.Endpoints, func(o stack.Endpoint) bool { return o.ID == e.ID }), e)
	})
}

// take removes an endpoint from a directory.
func (s *source) take(network, id string) {
	s.edit(network, func(d *stack.Directory) {
		d.Endpoints = slices.DeleteFunc(d.Endpoints, func(o stack.Endpoint) bool { return o.ID == id })
	})
}

// span is a network across nodes: 10.70.N.0/24 with virtual addresses in 10.71.N.0/24.
func span(name string, n int) stack.Network {
	return stack.Network{
		Name: name, ID: "id-" + name, VNI: 100 + n, Subnets: []stack.Subnet{{CIDR: fmt.Sprintf("10.70.%d.0/24", n)}},
		Virtual: []string{fmt.Sprintf("10.71.%d.0/24", n)},
	}
}

// far is a task of a service on another node.
func far(id, node, network, service, ip string) stack.Endpoint {
	return stack.Endpoint{ID: id, Node: node, Network: network, Name: id, Service: service, IPv4: ip, Aliases: []string{"web"}, Up: true, Ready: true}
}
