package server

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/runtimetest"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

// world is a server over fakes, on a unix socket.
type world struct {
	engine   *echoEngine
	images   *fakeImages
	networks *fakeNetworks
	stacks   *fakeStacks
	socket   string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{engine: &echoEngine{Fake: runtimetest.NewFake(), ended: map[string]bool{}}, images: newFakeImages(), networks: newFakeNetworks(), stacks: newFakeStacks()}
	w.socket = filepath.Join(shortDir(t), "dhow.sock")
	w.serve(t, Config{Engine: w.engine, Images: w.images, Networks: w.networks, Volumes: volumestest.New(t), Stacks: w.stacks, Bus: w.engine.Bus,
		Facts: Facts{Version: "0.1-test", NodeID: "node1", Hostname: "host1", DataDir: "/var/lib/dhow", Runtimes: map[string]string{"runc": "runc"}}})
	return w
}

// shortDir is a directory whose paths fit into a socket's address.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dhow")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (w *world) serve(t *testing.T, c Config) {
	t.Helper()
	l, err := Listen(w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, New(c), time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func (w *world) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}

// echoEngine is the fake, but its processes answer: "cat" gives back its input
// until that ends, in execs and in attached containers.
type echoEngine struct {
	*runtimetest.Fake
	mu    sync.Mutex
	sizes []string        // guarded by mu; every resize
	ended map[string]bool // guarded by mu; containers whose input ended before they were started

	onAttach func(*runtime.Streams) // nil: nothing
}

func (e *echoEngine) Resize(ctx context.Context, ref string, rows, cols uint16) error {
	e.mu.Lock()
	e.sizes = append(e.sizes, fmt.Sprintf("%dx%d", rows, cols))
	e.mu.Unlock()
	return e.Fake.Resize(ctx, ref, rows, cols)
}

// end is what a container does at the end of its input.
func (e *echoEngine) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Exit(id, 0) != nil {
		e.ended[id] = true
	}
}

func (e *echoEngine) Start(ctx context.Context, ref string) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	err = e.Fake.Start(ctx, ref)
	if e.ended[c.ID] {
		_ = e.Exit(c.ID, 0)
	}
	return err
}

func (e *echoEngine) resizes() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.sizes, " ")
}

func (e *echoEngine) Attach(ctx context.Context, ref string, opt runtime.AttachOptions) (*runtime.Streams, error) {
	c, err := e.Inspect(ctx, ref)
	if err != nil || len(c.Spec.Command) == 0 || c.Spec.Command[0] != "cat" {
		if err != nil {
			return nil, err
		}
		s, err := e.Fake.Attach(ctx, ref, opt)
		if err == nil && e.onAttach != nil {
			e.onAttach(s)
		}
		return s, err
	}
	return echo(opt.Stdin, c.Spec.TTY, func() { e.end(c.ID) }), nil
}

func (e *echoEngine) ExecStart(ctx context.Context, id string, detach bool) (*runtime.Streams, error) {
	x, err := e.ExecInspect(ctx, id)
	if err != nil {
		return nil, err
	}
	streams, err := e.Fake.ExecStart(ctx, id, detach)
	if err != nil || detach || x.Spec.Args[0] != "cat" {
		return streams, err
	}
	return echo(x.Spec.Stdin, x.Spec.TTY, func() {}), nil
}

// echo gives back what it gets; at the end of input it says so on stderr, or
// on the terminal, and ends.
func echo(stdin, tty bool, end func()) *runtime.Streams {
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	s := &runtime.Streams{Stdout: outR, Close: func() error { _ = outR.Close(); return errR.Close() }}
	if !tty {
		s.Stderr = errR
	}
	in := &echoInput{out: outW, closed: make(chan struct{})}
	if stdin {
		s.Stdin = in
	}
	go func() {
		if stdin {
			<-in.closed
		}
		end()
		if tty {
			_, _ = io.WriteString(outW, "bye\r\n")
		} else {
			_, _ = io.WriteString(errW, "bye\n")
		}
		_, _ = outW.Close(), errW.Close()
	}()
	return s
}

type echoInput struct {
	out    io.Writer
	once   sync.Once
	closed chan struct{}
}

func (i *echoInput) Write(p []byte) (int, error) { return i.out.Write(p) }
func (i *echoInput) Close() error                { i.once.Do(func() { close(i.closed) }); return nil }

func (e *echoEngine) ConnectNetwork(ctx context.Context, ref string, a stack.Attachment) error {
	_, err := e.Inspect(ctx, ref)
	return err
}

func (e *echoEngine) DisconnectNetwork(ctx context.Context, ref, _ string, _ bool) error {
	_, err := e.Inspect(ctx, ref)
	return err
}

// fakeImages are images by name.
type fakeImages struct {
	mu    sync.Mutex
	byRef map[string]*runtime.Image // guarded by mu
}

func newFakeImages() *fakeImages {
	f := &fakeImages{byRef: map[string]*runtime.Image{}}
	for i, name := range []string{"busybox:latest", "redis:7"} {
		f.byRef[name] = &runtime.Image{ID: fmt.Sprintf("sha256:%064x", 0xabc0+i), Tags: []string{name}, Created: time.Unix(1700000000+int64(i), 0),
			Size: 4 << 20, OS: "linux", Architecture: "amd64", Layers: []string{"sha256:" + strings.Repeat("1", 64)},
			Config:  runtime.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}},
			History: []runtime.ImageHistory{{CreatedBy: "ADD rootfs", Size: 4 << 20}, {CreatedBy: "CMD sh", EmptyLayer: true}}}
	}
	return f
}

func (f *fakeImages) Image(_ context.Context, ref, _ string) (*runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if img := f.findLocked(ref); img != nil {
		return img, nil
	}
	return nil, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
}

// familiar is ref as the store keeps it: "redis:7".
func familiar(ref string) string {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		return reference.FamiliarString(reference.TagNameOnly(named))
	}
	return ref
}

func (f *fakeImages) findLocked(ref string) *runtime.Image {
	if img := f.byRef[familiar(ref)]; img != nil {
		return img
	}
	for _, img := range f.byRef {
		if strings.HasPrefix(img.ID, "sha256:"+strings.TrimPrefix(ref, "sha256:")) && len(ref) >= 4 {
			return img
		}
	}
	return nil
}

func (f *fakeImages) List(context.Context) ([]runtime.Image, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[string]runtime.Image{}
	for _, img := range f.byRef {
		seen[img.ID] = *img
	}
	return slices.SortedFunc(maps.Values(seen), func(a, b runtime.Image) int { return strings.Compare(a.ID, b.ID) }), nil
}

func (f *fakeImages) Pull(_ context.Context, ref string, opt runtime.PullOptions) (*runtime.Image, error) {
	if strings.HasPrefix(ref, "missing") {
		return nil, fmt.Errorf("pull access denied for %s: %w", ref, runtime.ErrNotFound)
	}
	opt.Progress(runtime.Progress{ID: "0123456789ab", Status: "Pulling fs layer"})
	opt.Progress(runtime.Progress{ID: "0123456789ab", Status: "Downloading", Current: 10, Total: 10})
	opt.Progress(runtime.Progress{ID: "0123456789ab", Status: "Pull complete"})
	if strings.HasPrefix(ref, "broken") {
		return nil, fmt.Errorf("layer 0123456789ab: unexpected end of file")
	}
	img := &runtime.Image{ID: "sha256:" + strings.Repeat("d", 64), Tags: []string{ref}, Digests: []string{strings.Split(ref, ":")[0] + "@sha256:" + strings.Repeat("e", 64)}, Created: time.Unix(1700000000, 0)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byRef[familiar(ref)] = img
	return img, nil
}

func (f *fakeImages) Load(_ context.Context, r io.Reader, _ func(runtime.Progress)) ([]string, error) {
	if _, err := tar.NewReader(r).Next(); err != nil {
		return nil, fmt.Errorf("load: not an image archive: %w: %w", err, runtime.ErrInvalid)
	}
	_, err := io.Copy(io.Discard, r)
	return []string{"loaded:latest"}, err
}

func (f *fakeImages) Save(_ context.Context, refs []string, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, ref := range refs {
		if err := tw.WriteHeader(&tar.Header{Name: ref, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (f *fakeImages) Tag(_ context.Context, ref, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	img := f.findLocked(ref)
	if img == nil {
		return fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
	}
	f.byRef[familiar(name)] = img
	img.Tags = append(img.Tags, familiar(name))
	sort.Strings(img.Tags)
	return nil
}

func (f *fakeImages) Remove(_ context.Context, ref string, _, _ bool) (runtime.PruneReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	img := f.findLocked(ref)
	if img == nil {
		return runtime.PruneReport{}, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
	}
	delete(f.byRef, familiar(ref))
	img.Tags = slices.DeleteFunc(img.Tags, func(s string) bool { return s == familiar(ref) })
	report := runtime.PruneReport{Untagged: []string{familiar(ref)}}
	if len(img.Tags) == 0 {
		report.Deleted = []string{img.ID}
	}
	return report, nil
}

func (f *fakeImages) Prune(context.Context, bool, map[string]string) (runtime.PruneReport, error) {
	return runtime.PruneReport{}, nil
}

// fakeNetworks are the replicated networks.
type fakeNetworks struct {
	mu    sync.Mutex
	all   map[string]stack.Network     // guarded by mu; by name
	views map[string]stack.NetworkView // guarded by mu; by name
}

func newFakeNetworks() *fakeNetworks {
	return &fakeNetworks{all: map[string]stack.Network{defaultNetwork: {Name: defaultNetwork, ID: strings.Repeat("b", 64),
		Subnets: []stack.Subnet{{CIDR: "172.17.0.0/16", Gateway: "172.17.0.1"}}}}}
}

func (f *fakeNetworks) CreateNetwork(_ context.Context, n stack.Network) (stack.Network, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n.ID, n.Created = fmt.Sprintf("%064x", 0xf00+len(f.all)), time.Now().UnixNano()
	f.all[n.Name] = n
	return n, nil
}

func (f *fakeNetworks) RemoveNetwork(_ context.Context, ref string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.all {
		if name == ref || n.ID == ref {
			delete(f.all, name)
		}
	}
	return nil
}

func (f *fakeNetworks) Network(ref string) (stack.Network, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.all {
		if name == ref || len(ref) >= 4 && strings.HasPrefix(n.ID, ref) {
			return n, true
		}
	}
	return stack.Network{}, false
}

func (f *fakeNetworks) NetworkView(ref string) (stack.NetworkView, error) {
	n, ok := f.Network(ref)
	if !ok {
		return stack.NetworkView{}, runtime.ErrNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.views[n.Name]
	v.Network = n
	return v, nil
}

func (f *fakeNetworks) Networks() []stack.Network {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.all), func(a, b stack.Network) int { return strings.Compare(a.Name, b.Name) })
}
