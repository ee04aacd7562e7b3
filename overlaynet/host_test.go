package overlaynet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/dns"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/stack"
)

const childEnv = "DHOW_OVERLAYNET_HOST"

// inHost runs the rest of the test (or benchmark) in a process with a network
// and mount namespace of its own: a host that vanishes with the test. It
// returns false in the parent, which has run the child to its end by then.
func inHost(t testing.TB) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: this test makes network namespaces and needs root")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=120s"}
	if _, ok := t.(*testing.B); ok {
		args = []string{"-test.run=^$", "-test.bench=^" + t.Name() + "$"}
	}
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.testlogfile") || strings.HasPrefix(a, "-test.benchtime") || strings.HasPrefix(a, "-rapid.") {
			if !strings.Contains(a, "testlogfile") {
				args = append(args, a)
			}
		}
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	default:
		t.Logf("%s", out)
		if _, ok := t.(*testing.B); ok {
			fmt.Printf("%s", out)
		}
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

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
	defer s.mu.Unlock()
	delete(s.nets, name)
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
	stop  func()
}

// newNode starts a Manager in dir; stop (also at the end of the test) ends
// the process's part of it, as a crash would: the kernel's part stays.
func newNode(t testing.TB, dir string, src *source) *node {
	t.Helper()
	links, err := link.New(link.Config{RunDir: dir})
	must(t, err)
	n := &node{t: t, dir: dir, src: src, links: links, names: dns.New(dns.Config{ResolvConf: filepath.Join(dir, "resolv.conf")})}
	n.Manager = overlaynet.New(overlaynet.Options{
		RunDir: dir, Source: src, Links: links, Names: n.names,
		Rules: lb.New(lb.Config{RunDir: dir}), Ports: lb.NewPorts(nil),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		n.names.Close()
		n.links.Close()
	})
	go func() {
		defer close(done)
		if err := n.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
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

// in runs f in the namespace at path; "" is the host's.
func in(t testing.TB, path string, f func() error) error {
	t.Helper()
	if path == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			err := in(t, path, f) // but the first cannot end
			goruntime.UnlockOSThread()
			done <- err
			return
		}
		h, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// serve answers every TCP connection or UDP datagram on the port in the
// namespace with NAME REMOTE-ADDRESS.
func serve(t testing.TB, path, name, network, addr string) {
	t.Helper()
	must(t, in(t, path, func() error {
		if strings.HasPrefix(network, "udp") {
			pc, err := net.ListenPacket(network, addr)
			if err != nil {
				return err
			}
			t.Cleanup(func() { pc.Close() })
			go func() {
				buf := make([]byte, 2048)
				for {
					_, from, err := pc.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = pc.WriteTo([]byte(name+" "+hostOf(from)+"\n"), from)
				}
			}()
			return nil
		}
		ln, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "%s %s\n", name, hostOf(c.RemoteAddr()))
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		return nil
	}))
}

func hostOf(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return h
}

// ask connects from the namespace and returns what the server says.
func ask(t testing.TB, path, network, addr string) (string, error) {
	t.Helper()
	var line string
	err := in(t, path, func() error {
		c, err := net.DialTimeout(network, addr, 700*time.Millisecond)
		if err != nil {
			return err
		}
		defer c.Close()
		if strings.HasPrefix(network, "udp") {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		line, err = bufio.NewReader(c).ReadString('\n')
		line = strings.TrimSpace(line)
		return err
	})
	return line, err
}

func wantAsk(t testing.TB, what, path, network, addr, want string) {
	t.Helper()
	got, err := ask(t, path, network, addr)
	if err != nil || got != want {
		t.Errorf("%s: %s %s: got %q, %v; want %q", what, network, addr, got, err, want)
	}
}

func wantNone(t testing.TB, what, path, network, addr string) {
	t.Helper()
	if got, err := ask(t, path, network, addr); err == nil {
		t.Errorf("%s: %s %s answered %q; want nothing", what, network, addr, got)
	}
}

// outside makes a machine beside the host: host 192.0.2.1, outside 192.0.2.9,
// and their IPv6 likes; it returns the path of its namespace.
func outside(t testing.TB) string {
	t.Helper()
	var h netns.NsHandle
	must(t, in(t, "/proc/self/ns/net", func() (err error) { h, err = netns.New(); return err }))
	path := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", int(h)), path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	la := netlink.NewLinkAttrs()
	la.Name = "uplink"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(h)}))
	config := func(name string, addrs ...string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	}
	must(t, config("uplink", "192.0.2.1/24", "2001:db8::1/64"))
	must(t, in(t, path, func() error {
		if err := config("eth0", "192.0.2.9/24", "2001:db8::9/64"); err != nil {
			return err
		}
		if err := config("lo"); err != nil {
			return err
		}
		_, err := netlink.LinkByName("eth0") // makes the kernel finish the change of carrier
		return err
	}))
	_, err := netlink.LinkByName("uplink")
	must(t, err)
	h.Close()
	return path
}

// run runs a program in the host and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// until waits for f, which the kernel or a loop will make true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 5 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func bridgeNet(name, cidr string) stack.Network {
	return stack.Network{Name: name, Subnets: []stack.Subnet{{CIDR: cidr}}}
}
