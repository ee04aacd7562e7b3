package overlaynet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/stack"
)

// otherHost is a process with a network namespace of its own in which a second
// Manager does what it is told.
type otherHost struct {
	t   *testing.T
	pid int
	in  io.WriteCloser
	out *bufio.Scanner
}

// order is what the other host is told: a source, and one sandbox.
type order struct {
	Dir     string
	Fabric  overlaynet.Fabric
	Nets    []stack.Network
	Dirs    map[string]*stack.Directory
	Connect *overlaynet.Sandbox
	Ready   string // a sandbox that is ready from now on
}

type answer struct {
	Err       string
	Connected *overlaynet.Connected
}

const otherEnv = "DHOW_OVERLAYNET_OTHER"

// TestOtherHost is that process, and no test of its own.
func TestOtherHost(t *testing.T) {
	if os.Getenv(otherEnv) == "" {
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	run(t, "ip", "link", "set", "lo", "up")
	lines := bufio.NewScanner(os.NewFile(3, "orders"))
	lines.Buffer(nil, 1<<20)
	answers := os.NewFile(4, "answers")
	src := newSource()
	var n *node
	for lines.Scan() {
		var o order
		must(t, json.Unmarshal(lines.Bytes(), &o))
		if n == nil {
			n = newNode(t, o.Dir, src)
			must(t, n.Restore(t.Context(), nil))
		}
		src.mu.Lock()
		if src.fabric = o.Fabric; o.Dirs != nil {
			src.dirs = o.Dirs
		}
		for _, def := range o.Nets {
			src.nets[def.Name] = def
		}
		src.mu.Unlock()
		src.change()
		var a answer
		if o.Connect != nil {
			c, err := n.Connect(t.Context(), *o.Connect)
			if a.Connected = c; err != nil {
				a.Err = err.Error()
			}
		}
		if o.Ready != "" {
			n.SetReady(o.Ready, true)
		}
		must(t, n.Round(t.Context()))
		b, err := json.Marshal(a)
		must(t, err)
		_, err = answers.Write(append(b, '\n'))
		must(t, err)
	}
	must(t, n.Set(context.Background(), overlaynet.Config{}))
}

func startOther(t *testing.T) *otherHost {
	t.Helper()
	orders, in, err := os.Pipe()
	must(t, err)
	out, answers, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestOtherHost$", "-test.timeout=100s", "-test.v")
	cmd.Env = append(os.Environ(), otherEnv+"=1")
	cmd.ExtraFiles = []*os.File{orders, answers}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	runtime.LockOSThread() // Pdeathsig is about the thread that forks: no other goroutine may end it
	must(t, cmd.Start())
	orders.Close()
	answers.Close()
	h := &otherHost{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil || strings.Contains(said.String(), "--- FAIL") {
			t.Errorf("the other host: %v\n%s", err, said.String())
		}
		out.Close()
		runtime.UnlockOSThread()
	})
	return h
}

func (h *otherHost) do(o order) *overlaynet.Connected {
	h.t.Helper()
	b, err := json.Marshal(o)
	must(h.t, err)
	_, err = h.in.Write(append(b, '\n'))
	must(h.t, err)
	if !h.out.Scan() {
		h.t.Fatalf("the other host ended: %v", h.out.Err())
	}
	var a answer
	must(h.t, json.Unmarshal(h.out.Bytes(), &a))
	if a.Err != "" {
		h.t.Fatal(a.Err)
	}
	if a.Connected != nil { // its mount namespace is seen from here
		a.Connected.NetNS = fmt.Sprintf("/proc/%d/root%s", h.pid, a.Connected.NetNS)
	}
	return a.Connected
}

// echo sends back what comes in the namespace.
func echo(t *testing.T, path, addr string) {
	t.Helper()
	nettest.Accept(t, path, "tcp", addr, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// Two hosts, two Managers on the same directories: containers reach each other
// by address and through the service's address with their own addresses seen;
// a port is reached on the host that has no container behind it; a task that
// goes is not waited for; a restart of the process interrupts nothing.
func TestTwoHosts(t *testing.T) {
	if !inHost(t) {
		return
	}
	dir, otherDir := t.TempDir(), t.TempDir()
	front := span("front", 1)
	src := newSource(front)
	src.cluster(2)
	for _, id := range []string{"n1", "n2"} {
		src.peer(id, func(p *overlaynet.Peer) { p.Addr = netip.AddrFrom4([4]byte{203, 0, 113, byte(p.Number)}) })
	}
	out := outside(t)
	f1 := src.Fabric()
	f2 := f1
	f2.Node = "n2"
	other := startOther(t)
	run(t, "ip", "link", "add", "up1", "type", "veth", "peer", "name", "up2", "netns", fmt.Sprint(other.pid))
	run(t, "sh", "-c", "ip addr add 203.0.113.1/24 dev up1 && ip link set up1 up")
	other.do(order{Dir: otherDir, Fabric: overlaynet.Fabric{}, Nets: []stack.Network{front}})
	run(t, "sh", "-c", fmt.Sprintf("nsenter -t %d -n sh -c 'ip addr add 203.0.113.2/24 dev up2 && ip link set up2 up'", other.pid))

	web := func(id, node, addr string) stack.Endpoint { return far(id, node, "front", "shop/web", addr) }
	src.edit("front", func(d *stack.Directory) {
		d.Services = []stack.ServiceAddress{{Service: "shop/web", IPv4: "10.71.1.1", Names: []string{"web"}}}
		d.Endpoints = []stack.Endpoint{web("t1", "n1", "10.70.1.21"), web("t2", "n2", "10.70.1.22"), far("p", "n1", "front", "", "10.70.1.50")}
	})
	src.edit("", func(d *stack.Directory) {
		d.Published = []stack.Published{{Service: "shop/web", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}}
		d.Endpoints = []stack.Endpoint{web("t1", "n1", "10.70.1.21"), web("t2", "n2", "10.70.1.22")}
	})
	dirs := func() map[string]*stack.Directory {
		return map[string]*stack.Directory{"front": src.Directory("front"), "": src.Directory("")}
	}
	n := newNode(t, dir, src)
	must(t, n.Restore(t.Context(), nil))
	c1 := n.connect(task("c1", "10.70.1.21"))
	asker := n.connect(overlaynet.Sandbox{ID: "p", Attachments: []stack.Attachment{{Network: "front", Given4: "10.70.1.50"}}})
	sb := task("c2", "10.70.1.22")
	c2 := other.do(order{Fabric: f2, Dirs: dirs(), Connect: &sb})
	other.do(order{Fabric: f2, Dirs: dirs(), Ready: "c2"})
	n.SetReady("c1", true)
	serve(t, c1.NetNS, "one", "tcp", ":80")
	serve(t, c2.NetNS, "two", "tcp", ":80")

	until(t, "the tunnel", func() bool {
		got, err := ask(t, asker.NetNS, "tcp", "10.70.1.22:80")
		return err == nil && got == "two 10.70.1.50"
	})
	wantAsk(t, "the other way", c2.NetNS, "tcp", "10.70.1.21:80", "one 10.70.1.22")
	seen := map[string]int{}
	for range 20 {
		got, err := ask(t, asker.NetNS, "tcp", "10.71.1.1:80")
		must(t, err)
		seen[got]++
	}
	if seen["one 10.70.1.50"] != 10 || seen["two 10.70.1.50"] != 10 {
		t.Errorf("through the service's address: %v", seen)
	}

	n.SetReady("c1", false) // all published traffic goes to the other host
	wantAsk(t, "published here, served there", out, "tcp", "192.0.2.1:8080", "two 192.0.2.9")
	n.SetReady("c1", true)

	echo(t, c2.NetNS, "10.70.1.22:81")
	var conn net.Conn
	must(t, in(t, asker.NetNS, func() (err error) { conn, err = net.Dial("tcp", "10.70.1.22:81"); return err }))
	defer conn.Close()
	alive := func(what string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(what, err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Fatal(what, err)
		}
	}
	alive("at first")
	n.stop()
	alive("no manager")
	next := newNode(t, dir, src)
	must(t, next.Restore(t.Context(), []overlaynet.Restored{
		{Sandbox: task("c1", "10.70.1.21"), Connected: *c1, Ready: true},
		{Sandbox: overlaynet.Sandbox{ID: "p", Name: "p", DNSNames: []string{"p"}, Attachments: []stack.Attachment{{Network: "front", Given4: "10.70.1.50"}}}, Connected: *asker},
	}))
	alive("restored")
	next.SetReady("c1", false)
	wantAsk(t, "restored, published", out, "tcp", "192.0.2.1:8080", "two 192.0.2.9")

	src.edit("front", func(d *stack.Directory) { d.Endpoints[2].Up, d.Endpoints[2].Ready = false, false }) // t2
	src.edit("", func(d *stack.Directory) { d.Endpoints[1].Up, d.Endpoints[1].Ready = false, false })
	src.change()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a task that is gone is waited for: %v", err)
	}

	must(t, next.Set(t.Context(), overlaynet.Config{}))
	if s := trace(t, dir); strings.Contains(s, overlaynet.Mark(dir)) {
		t.Errorf("left:\n%s", s)
	}
}
