package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/engine"
	"github.com/dhow-project/dhow/runtime/events"
	"github.com/dhow-project/dhow/runtime/image"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/bind"
	"github.com/dhow-project/dhow/volumes/local"
	"github.com/dhow-project/dhow/volumes/tmpfs"
)

var shimBinary string

func TestMain(m *testing.M) {
	shimBinary = os.Getenv("ENGINE_TEST_SHIM")
	if os.Getenv("ENGINE_TEST_DAEMON") != "" {
		daemon()
		return
	}
	if shimBinary != "" { // built elsewhere: this machine has no Go
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "dhow-engine-test")
	if err != nil {
		panic(err)
	}
	shimBinary = filepath.Join(dir, "dhow-shim")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", shimBinary, "github.com/dhow-project/dhow/cmd/dhow-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build shim: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// node is one engine with what it needs: real images, volumes and shims, and a
// network that only remembers.
type node struct {
	testing.TB
	dir     string
	net     *network
	bus     *events.Bus
	images  *image.Store
	volumes *volumes.Manager
	*engine.Engine
	stop func()
}

const busybox = "busybox:latest"

// newNode opens an engine in a fresh directory. At the end of the test nothing
// of it may be left.
func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: containers need root")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("SKIP: runc is not installed")
	}
	dir, err := os.MkdirTemp("", "dhow-e")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{TB: t, dir: dir, net: &network{}}
	t.Cleanup(n.wipe)
	n.open()
	archive := imagetest.Archive(t, imagetest.Busybox(t, busybox))
	if _, err := n.images.Load(context.Background(), bytes.NewReader(archive), nil); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) open() {
	n.Helper()
	var err error
	n.images, err = image.Open(image.Config{DataDir: filepath.Join(n.dir, "images")})
	if err != nil {
		n.Fatal(err)
	}
	n.volumes, err = volumes.Open(volumes.Config{
		DataDir: filepath.Join(n.dir, "data"), RunDir: filepath.Join(n.dir, "run"),
		Drivers: map[string]volumes.Driver{volumes.DefaultDriver: local.New()},
		Makers:  map[stack.MountType]volumes.Maker{stack.MountBind: bind.New(), stack.MountTmpfs: tmpfs.New()},
		Images:  n.images,
	})
	if err != nil {
		n.Fatal(err)
	}
	n.bus = events.New()
	level := slog.LevelWarn
	n.Engine, err = engine.Open(engine.Config{
		DataDir: filepath.Join(n.dir, "data", "engine"), RunDir: filepath.Join(n.dir, "run"), Shim: shimBinary,
		Images: n.images, Networks: n.net, Volumes: n.volumes, Bus: n.bus,
		Log: slog.New(slog.NewTextHandler(n.output(), &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		n.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	n.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := n.images.Close(); err != nil {
			n.Error(err)
		}
	})
}

// output is where the engine logs: the test's, or standard error.
func (n *node) output() io.Writer {
	if _, outside := n.TB.(*fatal); outside {
		return os.Stderr
	}
	return n.Output()
}

// reopen ends the engine and opens another one on what it left.
func (n *node) reopen() {
	n.Helper()
	n.stop()
	n.open()
}

// wipe removes everything and checks that nothing is left behind.
func (n *node) wipe() {
	if n.Engine != nil {
		all, err := n.List(context.Background(), runtime.Filter{All: true})
		if err != nil {
			n.Error(err)
		}
		for _, c := range all {
			if err := n.Remove(context.Background(), c.ID, runtime.RemoveOptions{Force: true, Volumes: true}); err != nil {
				n.Errorf("remove %s: %v", c.Name, err)
			}
		}
		n.leftovers()
		n.stop()
	}
	for _, m := range n.mounts() {
		_ = exec.Command("umount", "-l", m).Run()
	}
	n.dropCgroups()
	if err := os.RemoveAll(n.dir); err != nil {
		n.Error(err)
	}
}

func (n *node) mounts() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], n.dir+"/") {
			out = append(out, f[4])
		}
	}
	return out
}

// leftovers reports mounts, bundles, sandboxes, cgroups and processes.
func (n *node) leftovers() {
	n.Helper()
	if m := n.mounts(); len(m) > 0 {
		n.Errorf("mounts left: %v", m)
	}
	if b, _ := os.ReadDir(filepath.Join(n.dir, "run", "c")); len(b) > 0 {
		n.Errorf("bundles left: %v", b)
	}
	if r, _ := os.ReadDir(filepath.Join(n.dir, "run", "runc")); len(r) > 0 {
		n.Errorf("runtime states left: %v", r)
	}
	if s := n.net.String(); s != "" {
		n.Errorf("sandboxes left:\n%s", s)
	}
	if dirs := n.cgroups(); len(dirs) > 0 {
		n.Errorf("cgroups left: %v", dirs)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if line, err := os.ReadFile(p); err == nil && strings.Contains(string(line), n.dir+"/run/c/") {
			n.Errorf("process left: %s %q", p, line)
		}
	}
}

func (n *node) mark() string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "data", "engine", "instance"))
	return strings.TrimSpace(string(b))
}

// cgroups of containers of this node.
func (n *node) cgroups() []string {
	var out []string
	for _, pattern := range []string{"/sys/fs/cgroup/dhow-" + n.mark() + "/*/cgroup.procs", "/sys/fs/cgroup/*/dhow-" + n.mark() + "/*/cgroup.procs"} {
		dirs, _ := filepath.Glob(pattern)
		out = append(out, dirs...)
	}
	return out
}

// dropCgroups removes what an engine that was killed, or that never opened
// again, could not. The kernel keeps groups that have processes.
func (n *node) dropCgroups() {
	if n.mark() == "" {
		return
	}
	for _, parent := range []string{"/sys/fs/cgroup/dhow-" + n.mark(), "/sys/fs/cgroup/*/dhow-" + n.mark()} {
		for _, below := range []string{"*/*", "*", ""} { // files stay: they are the kernel's
			dirs, _ := filepath.Glob(filepath.Join(parent, below))
			for _, d := range dirs {
				_ = os.Remove(d)
			}
		}
	}
}

// network remembers sandboxes and prints itself. Namespaces are left to the
// runtime.
type network struct {
	mu    sync.Mutex
	boxes map[string]overlaynet.Sandbox
	ready map[string]bool
	fail  error
	first func() // what Disconnect does first; may be nil
	later func() // what ConnectNetwork does first; may be nil
}

func (n *network) Connect(_ context.Context, sb overlaynet.Sandbox) (*overlaynet.Connected, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return nil, n.fail
	}
	if n.boxes == nil {
		n.boxes, n.ready = map[string]overlaynet.Sandbox{}, map[string]bool{}
	}
	n.boxes[sb.ID] = sb
	return connected(sb), nil
}

// connected invents one subnet per network, by the length of its name.
func connected(sb overlaynet.Sandbox) *overlaynet.Connected {
	out := &overlaynet.Connected{}
	for _, a := range sb.Attachments {
		subnet := fmt.Sprintf("10.9.%d.", len(a.Network))
		out.Endpoints = append(out.Endpoints, runtime.Endpoint{Network: a.Network, NetworkID: "id-" + a.Network, IPv4: subnet + "2/24", Gateway: subnet + "1"})
		if len(out.Nameservers) == 0 {
			out.Nameservers = []string{subnet + "1"}
		}
	}
	return out
}

func (n *network) ConnectNetwork(_ context.Context, id string, at stack.Attachment) (*overlaynet.Connected, error) {
	if n.later != nil {
		n.later()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return nil, n.fail
	}
	sb := n.boxes[id]
	sb.Attachments = append(slices.Clone(sb.Attachments), at)
	n.boxes[id] = sb
	return connected(sb), nil
}

func (n *network) DisconnectNetwork(_ context.Context, id, name string) (*overlaynet.Connected, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb := n.boxes[id]
	sb.Attachments = slices.DeleteFunc(slices.Clone(sb.Attachments), func(a stack.Attachment) bool { return a.Network == name })
	n.boxes[id] = sb
	return connected(sb), nil
}

func (n *network) Disconnect(_ context.Context, id string) error {
	if n.first != nil {
		n.first()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.boxes, id)
	delete(n.ready, id)
	return nil
}

func (n *network) Rename(id string, names []string) (*overlaynet.Connected, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb := n.boxes[id]
	sb.DNSNames = names
	n.boxes[id] = sb
	return connected(sb), nil
}

func (n *network) SetReady(id string, ready bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready[id] = ready
}

func (n *network) Restore(_ context.Context, have []overlaynet.Restored) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.boxes, n.ready = map[string]overlaynet.Sandbox{}, map[string]bool{}
	for _, r := range have {
		n.boxes[r.ID], n.ready[r.ID] = r.Sandbox, r.Ready
	}
	return nil
}

func (n *network) isReady(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready[id]
}

func (n *network) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for id, sb := range n.boxes {
		fmt.Fprintf(&b, "%s %s ready=%v\n", id[:12], sb.Name, n.ready[id])
	}
	return b.String()
}

// The helpers below fail the test.

func (n *node) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	n.Cleanup(cancel)
	return ctx
}

func (n *node) ok(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *node) create(name string, spec stack.ContainerSpec) string {
	n.Helper()
	if spec.Image == "" {
		spec.Image = busybox
	}
	id, _, err := n.Create(n.ctx(), name, spec)
	n.ok(err)
	return id
}

func (n *node) start(name string, spec stack.ContainerSpec) string {
	n.Helper()
	id := n.create(name, spec)
	n.ok(n.Start(n.ctx(), id))
	return id
}

func (n *node) inspect(ref string) *runtime.Container {
	n.Helper()
	c, err := n.Inspect(n.ctx(), ref)
	n.ok(err)
	return c
}

func (n *node) exit(ref string) int {
	n.Helper()
	ch, err := n.Wait(n.ctx(), ref, runtime.WaitNotRunning)
	n.ok(err)
	select {
	case st := <-ch:
		return st.Code
	case <-n.ctx().Done():
		n.Fatal("wait never answered")
		return 0
	}
}

// run runs a container to its end and returns its log and exit code.
func (n *node) run(spec stack.ContainerSpec) (string, int) {
	n.Helper()
	id := n.start("", spec)
	code := n.exit(id)
	return n.log(id), code
}

func (n *node) log(ref string) string {
	n.Helper()
	var b strings.Builder
	n.ok(n.Logs(n.ctx(), ref, runtime.LogOptions{Stdout: true, Stderr: true, Tail: -1}, func(e runtime.LogEntry) error {
		b.Write(e.Line)
		return nil
	}))
	return b.String()
}

// exec runs a command in a container and returns its output and exit code.
func (n *node) exec(ref string, args ...string) (string, int) {
	n.Helper()
	id, err := n.ExecCreate(n.ctx(), ref, runtime.ExecSpec{Args: args, Stdout: true, Stderr: true})
	n.ok(err)
	s, err := n.ExecStart(n.ctx(), id, false)
	n.ok(err)
	var out, stderr bytes.Buffer
	var g sync.WaitGroup
	g.Go(func() { _, _ = out.ReadFrom(s.Stdout) })
	g.Go(func() { _, _ = stderr.ReadFrom(s.Stderr) })
	g.Wait()
	x, err := n.ExecInspect(n.ctx(), id)
	n.ok(err)
	if x.ExitCode == nil {
		n.Fatal("output ended before the exit code was known")
	}
	return out.String() + stderr.String(), *x.ExitCode
}

// until waits for the event that ok accepts.
func (n *node) until(ch <-chan runtime.Event, ok func(runtime.Event) bool) runtime.Event {
	n.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case e, open := <-ch:
			if !open {
				n.Fatal("events ended")
			}
			if ok(e) {
				return e
			}
		case <-timeout:
			n.Fatal("event never came")
		}
	}
}

func sh(script string) stack.ContainerSpec {
	return stack.ContainerSpec{Command: []string{"sh", "-c", script}}
}
