package link_test

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// A lab is several hosts on one underlay. Each is a process in a network
// namespace of its own, since a process's settings are those of one namespace;
// it does what it is told over a pipe. The test's own namespace is the switch.
type lab struct {
	t     testing.TB
	hosts []*host
}

// host is one of them; 192.0.2.N, 2001:db8::N on the underlay.
type host struct {
	t    testing.TB
	n    int
	dir  string
	mark string
	pid  int

	mu  sync.Mutex
	in  *gob.Encoder
	out *gob.Decoder
}

const agentEnv = "DHOW_LINK_TEST_AGENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(agentEnv); dir != "" {
		if err := agent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// order is one call of Links.
type order struct {
	Op      string
	Segment overlaynet.Segment
	Remotes []overlaynet.Remote
	ID      string
	IDs     []string
	Plugs   []overlaynet.Plug
	Addrs   []netip.Addr
	All     []overlaynet.Segment
}

type answer struct {
	Err  string
	Path string
	N    int
}

func agent(dir string) error {
	l, err := link.New(link.Config{RunDir: dir, Spare: -1})
	if err != nil {
		return err
	}
	woken := make(chan struct{}, 1000)
	go func() { _ = l.Run(ctx, func() { woken <- struct{}{} }) }()
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a, err := o.obey(l, woken)
		if err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func (o order) obey(l *link.Links, woken chan struct{}) (a answer, err error) {
	switch o.Op {
	case "segment":
		err = l.SetSegment(ctx, o.Segment)
	case "no segment":
		err = l.RemoveSegment(ctx, o.Segment)
	case "remotes":
		err = l.SetRemotes(ctx, o.Segment, o.Remotes)
	case "sandbox":
		a.Path, err = l.SetSandbox(ctx, o.ID, o.Plugs)
	case "no sandbox":
		err = l.RemoveSandbox(ctx, o.ID, o.Plugs)
	case "reset":
		err = l.Reset(ctx, o.IDs, o.Addrs)
	case "sweep":
		sandboxes := map[string][]overlaynet.Plug{}
		for _, id := range o.IDs {
			sandboxes[id] = o.Plugs
		}
		err = l.Sweep(ctx, o.All, sandboxes)
	case "writes":
		a.N = int(l.Writes())
	case "mtu":
		a.N = l.MTUOf(o.Addrs[0])
	case "woken":
		for len(woken) > 0 {
			<-woken
			a.N++
		}
	default:
		err = fmt.Errorf("unknown order %q", o.Op)
	}
	return a, err
}

// newLab makes n hosts.
func newLab(t testing.TB, n int) *lab {
	t.Helper()
	x := &lab{t: t}
	nettest.Run(t, "ip", "link", "add", "under", "type", "bridge")
	nettest.Run(t, "sh", "-c", "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables; ip link set under up")
	for i := range n {
		x.hosts = append(x.hosts, x.add(i+1))
	}
	return x
}

func (x *lab) add(n int) *host {
	t := x.t
	t.Helper()
	h := &host{t: t, n: n, dir: t.TempDir()}
	h.mark = overlaynet.Mark(h.dir)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentEnv+"="+h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET} // it ends with its standard input
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	nettest.Must(t, err)
	out, err := cmd.StdoutPipe()
	nettest.Must(t, err)
	nettest.Must(t, cmd.Start())
	h.pid, h.in, h.out = cmd.Process.Pid, gob.NewEncoder(in), gob.NewDecoder(out)
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		open(t, h.dir) // whose end unmounts what is left
	})
	nettest.Run(t, "ip", "link", "add", fmt.Sprint("under", n), "mtu", "1500", "type", "veth", "peer", "name", "uplink", "netns", fmt.Sprint(h.pid))
	nettest.Run(t, "ip", "link", "set", fmt.Sprint("under", n), "master", "under", "up")
	h.sh(`ip link set lo up; echo 0 > /proc/sys/net/ipv6/conf/uplink/accept_dad; ip link set uplink up
		ip addr add 192.0.2.%[1]d/24 dev uplink; ip addr add 2001:db8::%[1]d/64 dev uplink nodad
		echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables`, n)
	return h
}

// sh runs commands in the host and returns what they print.
func (h *host) sh(format string, args ...any) string {
	h.t.Helper()
	return nettest.Run(h.t, "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.pid), "sh", "-ec", fmt.Sprintf(format, args...))
}

func (h *host) try(o order) (answer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var a answer
	if err := h.in.Encode(o); err != nil {
		return a, err
	}
	if err := h.out.Decode(&a); err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

func (h *host) do(o order) answer {
	h.t.Helper()
	a, err := h.try(o)
	if err != nil {
		h.t.Fatalf("host %d: %s: %v", h.n, o.Op, err)
	}
	return a
}

func (h *host) addr(v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", h.n))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", h.n))
}

// wire is a network as a test wants it.
type wire struct {
	n            int // 10.N.0.0/16, fd00:N::/64
	no4, v6      bool
	underlay6    bool
	mtu          int
	noVirtual    bool
	separate     bool
	vni          uint32
	noTunnelHere bool
}

// segment is the network on the host.
func (h *host) segment(w wire) overlaynet.Segment {
	s := overlaynet.Segment{ID: fmt.Sprint("net", w.n), Name: fmt.Sprint("net", w.n), Bridge: fmt.Sprintf("%sb%d", h.mark, w.n), MTU: w.mtu, Separate: w.separate}
	if !w.no4 {
		s.Gateways = append(s.Gateways, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/16", w.n)))
		if !w.noVirtual {
			s.Virtual = append(s.Virtual, netip.MustParsePrefix(fmt.Sprintf("172.16.%d.0/24", w.n)))
		}
	}
	if w.v6 {
		s.Gateways = append(s.Gateways, netip.MustParsePrefix(fmt.Sprintf("fd00:%d::1/64", w.n)))
		if !w.noVirtual {
			s.Virtual = append(s.Virtual, netip.MustParsePrefix(fmt.Sprintf("fd01:%d::/112", w.n)))
		}
	}
	if w.vni == 0 {
		w.vni = uint32(4096 + w.n)
	}
	if !w.noTunnelHere {
		s.Tunnel = &overlaynet.Tunnel{Device: fmt.Sprintf("%sx%d", h.mark, w.n), VNI: w.vni, Port: 4789, Local: h.addr(w.underlay6)}
	}
	return s
}

// plug is container c of the host in the network.
func (h *host) plug(w wire, c int) overlaynet.Plug {
	p := overlaynet.Plug{Segment: h.segment(w), Host: fmt.Sprintf("%sv%d.%d", h.mark, w.n, c), Interface: fmt.Sprint("eth", w.n), MAC: macOf(h.n, c)}
	for _, g := range p.Segment.Gateways {
		p.Addrs = append(p.Addrs, netip.PrefixFrom(addrOf(g, h.n, c), g.Bits()))
		if g.Addr().Is4() {
			p.Gateway4 = g.Addr()
		} else {
			p.Gateway6 = g.Addr()
		}
	}
	return p
}

func macOf(host, c int) string { return fmt.Sprintf("02:42:0a:%02x:%02x:%02x", host, c/256, c%256) }

// addrOf is that of container c of a host in the gateway's subnet.
func addrOf(gateway netip.Prefix, host, c int) netip.Addr {
	b := gateway.Addr().AsSlice()
	b[len(b)-2], b[len(b)-1] = byte(host), byte(c)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// remote is container c of the host as other hosts see it.
func (h *host) remote(w wire, c int) overlaynet.Remote {
	p := h.plug(w, c)
	r := overlaynet.Remote{MAC: p.MAC, Via: h.addr(w.underlay6)}
	for _, a := range p.Addrs {
		r.Addrs = append(r.Addrs, a.Addr())
	}
	return r
}

// box is a container that exists.
type box struct {
	host *host
	w    wire
	c    int
	path string
}

func (b box) addr(v6 bool) string {
	for _, a := range b.host.plug(b.w, b.c).Addrs {
		if a.Addr().Is6() == v6 {
			return a.Addr().String()
		}
	}
	return ""
}

func (b box) sh(format string, args ...any) string {
	b.host.t.Helper()
	return nettest.Run(b.host.t, "nsenter", "--net="+b.path, "sh", "-ec", fmt.Sprintf(format, args...))
}

// connect makes the network on all hosts, with per containers on each, and
// tells all hosts of all.
func (x *lab) connect(w wire, per int) (boxes []box) {
	x.t.Helper()
	for _, h := range x.hosts {
		h.do(order{Op: "segment", Segment: h.segment(w)})
		for c := range per {
			b := box{h, w, c + 2, ""}
			b.path = h.do(order{Op: "sandbox", ID: fmt.Sprintf("n%dc%d", w.n, b.c), Plugs: []overlaynet.Plug{h.plug(w, b.c)}}).Path
			boxes = append(boxes, b)
		}
	}
	for _, b := range boxes {
		b.settle(b.addr(true))
	}
	x.tell(w, boxes...)
	return boxes
}

// settle waits for the kernel to take up the container's IPv6 address, which it
// does on the side; what comes before that is lost and comes again after a second.
func (b box) settle(addr string) {
	b.host.t.Helper()
	if addr != "" {
		nettest.Until(b.host.t, addr+" is taken up", func() bool { return strings.Contains(b.sh("ip -6 route show table local"), "local "+addr+" ") })
	}
}

// tell makes each host know the containers of the others.
func (x *lab) tell(w wire, boxes ...box) {
	x.t.Helper()
	for _, h := range x.hosts {
		var list []overlaynet.Remote
		for _, b := range boxes {
			if b.host != h {
				list = append(list, b.host.remote(w, b.c))
			}
		}
		h.do(order{Op: "remotes", Segment: h.segment(w), Remotes: list})
	}
}

// echo sends a datagram of size bytes, headers included, which must not be
// fragmented, to the UDP server of a container and wants its answer.
func (b box) echo(to box, v6 bool, size int) error {
	dst := net.JoinHostPort(to.addr(v6), "7")
	return nettest.In(b.host.t, b.path, func() error {
		c, err := net.Dial("udp", dst)
		if err != nil {
			return err
		}
		defer c.Close()
		level, opt, header := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, 28
		if v6 {
			level, opt, header = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, 48
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, unix.IP_PMTUDISC_PROBE) }); cerr != nil || err != nil {
			return errors.Join(cerr, err)
		}
		buf := make([]byte, size-header)
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := c.Read(append(buf, 0))
		if err == nil && n != len(buf) {
			err = fmt.Errorf("%d bytes came back of %d", n, len(buf))
		}
		return err
	})
}

// serveEcho answers datagrams with themselves.
func (b box) serveEcho() {
	nettest.Must(b.host.t, nettest.In(b.host.t, b.path, func() error {
		c, err := net.ListenPacket("udp", ":7")
		if err != nil {
			return err
		}
		b.host.t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo(buf[:n], from)
			}
		}()
		return nil
	}))
}
