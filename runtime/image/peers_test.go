package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

// nodes are stores that know each other, each behind a server of its own.
type nodes struct {
	t  testing.TB
	mu sync.Mutex
	by map[string]*testNode // guarded by mu
	// list says who is asked; nil: all others by name. Set before the first pull.
	list func(asker, key string) []string
}

type testNode struct {
	*Store
	server *httptest.Server
	asked  []string                                          // path and range; guarded by nodes.mu
	front  func(w http.ResponseWriter, r *http.Request) bool // true: it has answered; guarded by nodes.mu
	sent   atomic.Int64                                      // blobs begun
}

func newNodes(t testing.TB, names ...string) *nodes {
	n := &nodes{t: t, by: map[string]*testNode{}}
	for _, name := range names {
		node := &testNode{}
		node.Store = newStore(t, func(c *Config) { c.Peers = view{n, name} })
		routed(node.Store, nil) // no registry
		h := node.Handler()
		node.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.mu.Lock()
			node.asked = append(node.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
			front := node.front
			n.mu.Unlock()
			if strings.Contains(r.URL.Path, "/blobs/") {
				node.sent.Add(1)
			}
			if front == nil || !front(w, r) {
				h.ServeHTTP(w, r)
			}
		}))
		node.server.Config.ErrorLog = discardLog()
		t.Cleanup(node.server.Close)
		n.by[name] = node
	}
	return n
}

func (n *nodes) setFront(name string, front func(http.ResponseWriter, *http.Request) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.by[name].front = front
}

// asked are the requests to a node that contain a word.
func (n *nodes) asked(name, word string) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.by[name].asked {
		if strings.Contains(a, word) {
			out = append(out, a)
		}
	}
	return out
}

// view is the cluster as one node sees it.
type view struct {
	*nodes
	self string
}

func (v view) Peers(_ context.Context, key string) []string {
	if v.list != nil {
		return v.list(v.self, key)
	}
	var out []string
	for name := range v.by {
		if name != v.self {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (v view) Client(node string) *http.Client {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, v.by[node].server.Listener.Addr().String())
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

func (v view) Name(node string) string { return "host-" + node }

func noise(size int) string {
	b := make([]byte, size)
	rand.Read(b)
	return string(b)
}

func wantImage(t testing.TB, s *Store, ref string, built imagetest.Built) {
	t.Helper()
	img := get(t, s, ref)
	if img.ID != built.ID() {
		t.Errorf("%s is %s, want %s", ref, img.ID, built.ID())
	}
	for _, d := range append(slices.Clone(built.Manifest.Layers), built.Manifest.Config) {
		if _, err := s.content.Info(s.context(t.Context()), d.Digest); err != nil {
			t.Errorf("%s lacks %s: %v", ref, d.Digest, err)
		}
	}
}

func TestPullFromPeer(t *testing.T) {
	n := newNodes(t, "a", "b", "c")
	a, b, c := n.by["a"], n.by["b"], n.by["c"]
	archives := map[string][]byte{
		"oci":    imagetest.Archive(t, simple("shop/app:1", "x", noise(1<<20), "z")),
		"docker": imagetest.DockerArchive(t, simple("shop/old:1", "p", "q")),
	}
	for kind, ref := range map[string]string{"oci": "shop/app:1", "docker": "shop/old:1"} {
		t.Run(kind, func(t *testing.T) {
			if _, err := a.Load(t.Context(), bytes.NewReader(archives[kind]), nil); err != nil {
				t.Fatal(err)
			}
			want := get(t, a.Store, ref)
			rec := &recorder{}
			got, err := b.Pull(t.Context(), ref, runtime.PullOptions{Digest: want.Target, ImageID: want.ID, NoRegistry: true, Progress: rec.emit})
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != want.ID || !slices.Equal(got.Tags, []string{ref}) || !slices.Equal(got.Layers, want.Layers) {
				t.Errorf("got %+v", got)
			}
			layers := len(want.Layers)
			for status, times := range map[string]int{"Pulling from node host-a": 1, "Downloading from node host-a": layers, "Pull complete": layers, "Status: Downloaded newer image for " + ref + " from node host-a": 1} {
				if rec.count(status) != times {
					t.Errorf("%q was said %d times, want %d", status, rec.count(status), times)
				}
			}
			// By its ID alone, from whichever has it; by name alone.
			if got, err = c.Pull(t.Context(), want.ID, runtime.PullOptions{}); err != nil || got.ID != want.ID || len(got.Tags) > 0 {
				t.Fatalf("by ID: %+v, %v", got, err)
			}
			if got, err = c.Pull(t.Context(), ref, runtime.PullOptions{Anywhere: true}); err != nil || got.ID != want.ID || !slices.Contains(got.Tags, ref) {
				t.Fatalf("by name: %+v, %v", got, err)
			}
			// Where the registry does not answer, also a pull that wanted it.
			if _, err = c.Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPullFromNobody(t *testing.T) {
	n := newNodes(t, "a", "b", "dead")
	n.by["dead"].server.Close()
	load(t, n.by["a"].Store, simple("app:1", "x"))
	ctx := t.Context()
	_, err := n.by["b"].Pull(ctx, "app:2", runtime.PullOptions{Anywhere: true, NoRegistry: true})
	wantErr(t, err, runtime.ErrUnavailable, "pull app:2: it is not on this node, and no other node gives it (node host-dead: ")
	_, err = n.by["b"].Pull(ctx, "app:2", runtime.PullOptions{Anywhere: true})
	wantErr(t, err, nil, "registry docker.io", "does not answer", "no other node gives it (node host-dead: did not answer a moment ago)")
	_, err = n.by["b"].Pull(ctx, "app:1", runtime.PullOptions{NoPeers: true})
	wantErr(t, err, nil, "does not answer")
	none := newStore(t, nil)
	_, err = none.Pull(ctx, "app:1", runtime.PullOptions{NoRegistry: true})
	wantErr(t, err, runtime.ErrNotFound, "no other node has it", "dhow load")
	wantEmpty(t, n.by["b"].Store)
}

// A pinned image of a node takes no name from another image.
func TestPinnedPullLeavesNames(t *testing.T) {
	n := newNodes(t, "a", "b")
	load(t, n.by["a"].Store, simple("app:1", "new"))
	load(t, n.by["b"].Store, simple("app:1", "old"))
	want, old := get(t, n.by["a"].Store, "app:1"), get(t, n.by["b"].Store, "app:1")
	if _, err := n.by["b"].Pull(t.Context(), "app:1", runtime.PullOptions{Digest: want.Target, ImageID: want.ID}); err != nil {
		t.Fatal(err)
	}
	if get(t, n.by["b"].Store, "app:1").ID != old.ID || get(t, n.by["b"].Store, want.Target).ID != want.ID {
		t.Error("the name has moved")
	}
	// A name that came with a deployment goes with the next one, until a person says what it means.
	load(t, n.by["a"].Store, simple("other:1", "1"))
	pin := func() *runtime.Image {
		t.Helper()
		want := get(t, n.by["a"].Store, "other:1")
		if _, err := n.by["b"].Pull(t.Context(), "other:1", runtime.PullOptions{Digest: want.Target, ImageID: want.ID}); err != nil {
			t.Fatal(err)
		}
		return want
	}
	first := pin()
	load(t, n.by["a"].Store, simple("other:1", "2"))
	second := pin()
	if got := get(t, n.by["b"].Store, "other:1"); got.ID != second.ID || second.ID == first.ID {
		t.Errorf("the name means %s, want %s", got.ID, second.ID)
	}
	load(t, n.by["b"].Store, simple("other:1", "2"))
	load(t, n.by["a"].Store, simple("other:1", "3"))
	pin()
	if got := get(t, n.by["b"].Store, "other:1"); got.ID != second.ID {
		t.Errorf("a person's name has moved to %s", got.ID)
	}
}

// A peer that sends other bytes is found out, and others are asked.
func TestDamagedPeer(t *testing.T) {
	n := newNodes(t, "a", "b", "c")
	built := imagetest.Build(t, simple("app:1", noise(1<<20)))
	for _, name := range []string{"a", "b"} {
		if _, err := n.by[name].Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
			t.Fatal(err)
		}
	}
	layer := built.Manifest.Layers[0]
	n.setFront("a", func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		w.Write(bytes.Repeat([]byte{7}, int(layer.Size)))
		return true
	})
	pin := runtime.PullOptions{Digest: built.Target.Digest.String(), NoRegistry: true}
	if _, err := n.by["c"].Pull(t.Context(), "app:1", pin); err != nil {
		t.Fatal(err)
	}
	wantImage(t, n.by["c"].Store, "app:1", built)
	if len(n.asked("a", layer.Digest.String())) != 1 || len(n.asked("b", layer.Digest.String())) != 1 {
		t.Errorf("a was asked %q, b %q", n.asked("a", "blobs"), n.asked("b", "blobs"))
	}
	// A manifest that is not what was asked for, and nobody else to ask.
	d := newNodes(t, "a", "c")
	d.setFront("a", func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			data := []byte(`{"schemaVersion":2}`)
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(data).String())
			w.Write(data)
			return true
		}
		return false
	})
	_, err := d.by["c"].Pull(t.Context(), "app:1", pin)
	wantErr(t, err, runtime.ErrUnavailable, "node host-a: sends another manifest than it is asked for")
	wantEmpty(t, d.by["c"].Store)
}

// A peer that dies in the middle of a layer is replaced: another goes on at the byte where it stopped.
func TestPeerDiesInTheMiddle(t *testing.T) {
	n := newNodes(t, "a", "b", "c")
	built := imagetest.Build(t, simple("app:1", noise(4<<20)))
	for _, name := range []string{"a", "b"} {
		if _, err := n.by[name].Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
			t.Fatal(err)
		}
	}
	layer := built.Manifest.Layers[0]
	n.setFront("a", func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
		w.Write(built.Blobs[layer.Digest][:3<<20])
		n.by["a"].server.Listener.Close()
		panic(http.ErrAbortHandler)
	})
	if _, err := n.by["c"].Pull(t.Context(), "app:1", runtime.PullOptions{Digest: built.Target.Digest.String(), NoRegistry: true}); err != nil {
		t.Fatal(err)
	}
	wantImage(t, n.by["c"].Store, "app:1", built)
	asked := n.asked("b", layer.Digest.String())
	if len(asked) != 1 {
		t.Fatalf("b was asked for %q", asked)
	}
	_, from, _ := strings.Cut(asked[0], "bytes=")
	if at, _ := strconv.Atoi(strings.TrimSuffix(from, "-")); at < 1<<20 {
		t.Errorf("b was asked for the layer from byte %d", at)
	}
}

// A peer that falls silent costs its stall time, one that never answers its answer time.
func TestSilentPeers(t *testing.T) {
	n := newNodes(t, "a", "b", "c", "d")
	built := imagetest.Build(t, simple("app:1", noise(1<<20)))
	for _, name := range []string{"a", "b", "c"} {
		if _, err := n.by[name].Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
			t.Fatal(err)
		}
	}
	layer := built.Manifest.Layers[0]
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	hang := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}
	n.setFront("a", func(_ http.ResponseWriter, r *http.Request) bool { hang(r); return true })
	n.setFront("b", func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
		w.Write(built.Blobs[layer.Digest][:1000])
		w.(http.Flusher).Flush()
		hang(r)
		return true
	})
	d := n.by["d"]
	d.near.answer, d.near.stall = 200*time.Millisecond, 100*time.Millisecond
	if _, err := d.Pull(t.Context(), "app:1", runtime.PullOptions{Digest: built.Target.Digest.String(), NoRegistry: true}); err != nil {
		t.Fatal(err)
	}
	wantImage(t, d.Store, "app:1", built)
	if got := n.asked("c", layer.Digest.String()); len(got) != 1 || !strings.HasSuffix(got[0], "bytes=1000-") {
		t.Errorf("c was asked for %q", got)
	}
	if !d.near.isSilent("a") {
		t.Error("a node that does not answer is not left alone")
	}
}

// What no node gives comes from the registry, where that is allowed.
func TestPeersThenRegistry(t *testing.T) {
	n := newNodes(t, "a", "b")
	reg := newRegistry(t, false)
	built := imagetest.Build(t, simple("", noise(1<<20), "small"))
	reg.push(t, "app", "1", built)
	ref := reg.host() + "/app:1"
	if _, err := n.by["a"].Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	before := reg.requests("/blobs/")
	layer := built.Manifest.Layers[0]
	var cut atomic.Bool
	n.setFront("a", func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		if cut.Swap(true) {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Length", fmt.Sprint(layer.Size))
		w.Write(built.Blobs[layer.Digest][:1000])
		panic(http.ErrAbortHandler)
	})
	// The registry says what the name means, a node has most of it.
	if _, err := n.by["b"].Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	wantImage(t, n.by["b"].Store, ref, built)
	if got := reg.requests("/blobs/") - before; got != 1 {
		t.Errorf("%d blobs came from the registry, want the one that broke off", got)
	}
	// A newer image under the pinned name is not taken.
	reg.push(t, "app", "1", imagetest.Build(t, simple("", "other")))
	c := newStore(t, nil)
	_, err := c.Pull(t.Context(), ref, runtime.PullOptions{ImageID: built.ID()})
	wantErr(t, err, runtime.ErrNotFound, "another image under this name now", "dhow up")
	if got, err := c.Pull(t.Context(), ref, runtime.PullOptions{Digest: built.Target.Digest.String(), ImageID: built.ID()}); err != nil || got.ID != built.ID() {
		t.Errorf("pinned by digest: %+v, %v", got, err)
	}
}

// Many nodes that start together: the one that has the image is not asked for
// more than it sends, those that are done serve the others.
func TestManyNodesAtOnce(t *testing.T) {
	const many = 24
	names := []string{"seed"}
	for i := range many {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	n := newNodes(t, names...)
	built := imagetest.Build(t, simple("app:1", noise(256<<10), noise(256<<10), noise(256<<10)))
	var mu sync.Mutex
	have := []string{"seed"}
	n.list = func(string, string) []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(have)
	}
	if _, err := n.by["seed"].Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
		t.Fatal(err)
	}
	// The seed sends two layers at a time, on a slow line.
	var sending, most atomic.Int64
	seed := &server{store: n.by["seed"].Store, slots: make(chan struct{}, 2), stall: time.Minute}
	n.setFront("seed", func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		seed.serve(countingWriter{w, &sending, &most}, r)
		return true
	})
	var g errgroup.Group
	for _, name := range names[1:] {
		g.Go(func() error {
			_, err := n.by[name].Pull(t.Context(), "app:1", runtime.PullOptions{Digest: built.Target.Digest.String(), NoRegistry: true})
			mu.Lock()
			defer mu.Unlock()
			have = append(have, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	others := int64(0)
	for _, name := range names[1:] {
		wantImage(t, n.by[name].Store, "app:1", built)
		others += n.by[name].sent.Load()
	}
	t.Logf("seed was asked for %d blobs, the others for %d; at most %d layers at once from the seed", n.by["seed"].sent.Load(), others, most.Load())
	if others == 0 {
		t.Error("nobody but the first node served")
	}
	if most.Load() > 2 {
		t.Errorf("the first node sent %d layers at once", most.Load())
	}
}

// countingWriter counts answers of layers that are under way.
type countingWriter struct {
	http.ResponseWriter
	now, most *atomic.Int64
}

func (c countingWriter) Write(b []byte) (int, error) {
	if len(b) < 16<<10 {
		return c.ResponseWriter.Write(b)
	}
	now := c.now.Add(1)
	defer c.now.Add(-1)
	for m := c.most.Load(); now > m && !c.most.CompareAndSwap(m, now); m = c.most.Load() {
	}
	time.Sleep(10 * time.Millisecond) // the speed of its line
	return c.ResponseWriter.Write(b)
}

func (c countingWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}
