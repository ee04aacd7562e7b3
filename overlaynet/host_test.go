package overlaynet_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/dns"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/stack"
)

// source is the replicated state of a test.
type source struct {
	mu   sync.Mutex
	nets map[string]stack.Network
	ch   chan struct{}
}

func newSource(nets ...stack.Network) *source {
	s := &source{nets: map[string]stack.Network{}, ch: make(chan struct{})}
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

// node is one Manager with its drivers.
type node struct {
	*overlaynet.Manager
	t     testing.TB
	dir   string
	src   *source
	links *link.Links
	names *dns.Server
	rules *lb.Rules
	stop  func()
}

// writes is how often the kernel was told to change something.
func (n *node) writes() uint64 { return n.links.Writes() + n.rules.Writes() }

// newNode starts a Manager in dir; stop (also at the end of the test) ends
// the process's part of it, as a crash would: the kernel's part stays.
func newNode(t testing.TB, dir string, src *source) *node {
	t.Helper()
	n := idleNode(t, dir, src)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	closeParts := n.stop
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		closeParts()
	})
	go func() {
		defer close(done)
		if err := n.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(n.stop)
	return n
}

// idleNode is a Manager that repairs nothing by itself.
func idleNode(t testing.TB, dir string, src *source) *node {
	t.Helper()
	links, err := link.New(link.Config{RunDir: dir})
	must(t, err)
	n := &node{t: t, dir: dir, src: src, links: links, rules: lb.New(lb.Config{RunDir: dir}), names: dns.New(dns.Config{ResolvConf: filepath.Join(dir, "resolv.conf")})}
	n.Manager = overlaynet.New(overlaynet.Options{RunDir: dir, Source: src, Links: links, Names: n.names, Rules: n.rules, Ports: lb.NewPorts(nil)})
	n.stop = sync.OnceFunc(func() {
		n.names.Close()
		n.links.Close()
	})
	t.Cleanup(func() {
		n.stop()
		files, _ := filepath.Glob(filepath.Join(dir, "netns", "*"))
		for _, f := range files {
			_ = unix.Unmount(f, unix.MNT_DETACH)
		}
	})
	return n
}

func (n *node) connect(sb overlaynet.Sandbox) *overlaynet.Connected {
	n.t.Helper()
	if sb.Name == "" {
		sb.Name = sb.ID
	}
	if sb.DNSNames == nil {
		sb.DNSNames = []string{sb.Name}
	}
	c, err := n.Connect(context.Background(), sb)
	must(n.t, err)
	return c
}

// on makes attachments.
func on(networks ...string) (out []stack.Attachment) {
	for _, n := range networks {
		out = append(out, stack.Attachment{Network: n})
	}
	return out
}

func ip(c *overlaynet.Connected, i int) string {
	return netip.MustParsePrefix(c.Endpoints[i].IPv4).Addr().String()
}

func ip6(c *overlaynet.Connected, i int) string {
	return netip.MustParsePrefix(c.Endpoints[i].IPv6).Addr().String()
}

func bridgeNet(name, cidr string) stack.Network {
	return stack.Network{Name: name, Subnets: []stack.Subnet{{CIDR: cidr}}}
}

// This node is alone.
func (s *source) Fabric() overlaynet.Fabric { return overlaynet.Fabric{} }

func (s *source) Directory(string) *stack.Directory { return nil }

func (s *source) Enter(_ context.Context, e stack.Endpoint) (stack.Endpoint, error) { return e, nil }

func (s *source) Leave(context.Context, string, string) error { return nil }
