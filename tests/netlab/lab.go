package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dhow-project/dhow/tests/images"
)

// Lab is a set of hosts on one switch, 10.77.0.0/24.
type Lab struct {
	t      testing.TB
	name   string
	bridge string // namespace of the switch
	root   string // of the source tree
	hosts  int
	ports  []string     // of the switch, one for each machine
	cut    map[cut]bool // ways that are cut
}

var labs atomic.Int32

// Root is the directory of go.mod.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// New makes a lab with no hosts.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root (network namespaces, mounts, cgroups)")
	}
	for _, program := range []string{"ip", "nsenter", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT RUN: needs %s (make deps)", program)
		}
	}
	l := &Lab{t: t, name: fmt.Sprintf("dhl%d-%d", os.Getpid(), labs.Add(1)), root: Root()}
	for _, b := range []string{"dhow", "dhow-shim"} {
		if _, err := os.Stat(l.bin(b)); err != nil {
			t.Skipf("NOT RUN: needs bin/%s (make build)", b)
		}
	}
	l.bridge = l.name + "-sw"
	l.ip("netns", "add", l.bridge)
	t.Cleanup(func() { run("ip", "netns", "del", l.bridge) })
	l.ip("-n", l.bridge, "link", "add", "sw", "type", "bridge")
	l.ip("-n", l.bridge, "link", "set", "sw", "up")
	return l
}

// bin is the path of one of our programs: bin of the tree, or DHOW_BIN.
func (l *Lab) bin(name string) string {
	if dir := os.Getenv("DHOW_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(l.root, "bin", name)
}

// namespace makes a namespace on the switch and returns its name and address.
func (l *Lab) namespace(kind string) (name, addr string) {
	l.t.Helper()
	l.hosts++
	name = fmt.Sprintf("%s-%s%d", l.name, kind, l.hosts)
	addr = fmt.Sprintf("10.77.0.%d", l.hosts)
	l.ip("netns", "add", name)
	l.t.Cleanup(func() { run("ip", "netns", "del", name) })
	port := fmt.Sprintf("p%d", l.hosts)
	l.ports = append(l.ports, port)
	l.ip("link", "add", "name", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", l.bridge)
	l.ip("-n", l.bridge, "link", "set", port, "master", "sw", "up")
	l.ip("-n", name, "addr", "add", addr+"/24", "dev", "eth0")
	l.ip("-n", name, "link", "set", "eth0", "up")
	l.ip("-n", name, "link", "set", "lo", "up")
	return name, addr
}

func (l *Lab) ip(args ...string) {
	l.t.Helper()
	if out, err := run("ip", args...); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// pipe runs a program with input.
func (l *Lab) pipe(input, program string, args ...string) {
	l.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

func run(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Images returns the archives of refs and makes those that are missing.
func Images(t testing.TB, refs ...string) []string {
	t.Helper()
	dir := os.Getenv("DHOW_IMAGES")
	if dir == "" {
		dir = filepath.Join(Root(), "build", "images")
	}
	b := images.Builder{Dir: dir, Log: os.Stderr}
	paths, err := b.Build(context.Background(), refs...)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
