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
