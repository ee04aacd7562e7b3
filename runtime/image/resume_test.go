package image

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

// A big layer is cut off again and again; each attempt goes on where the last
// one stopped.
func TestPullResumes(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	noise := make([]byte, 4<<20)
	rand.Read(noise)
	built := imagetest.Build(t, simple("", string(noise)))
	reg.push(t, "big", "1", built)
	layer := built.Manifest.Layers[0]
	var sent, cuts atomic.Int64
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) || r.Method != "GET" {
			return false
		}
		data, at := built.Blobs[layer.Digest], 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-at))
		if at > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		part := data[at:]
		cut := len(part) > 1<<20
		if cut {
			part = part[:1<<20]
		}
		n, _ := w.Write(part)
		sent.Add(int64(n))
		if cut {
			cuts.Add(1)
			panic(http.ErrAbortHandler)
		}
		return true
	})
	reg.Config.ErrorLog = discardLog()
	if _, err := s.Pull(t.Context(), reg.host()+"/big:1", runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("cut off %d times, %d bytes sent for %d", cuts.Load(), sent.Load(), layer.Size)
	if sent.Load() > 2*layer.Size || cuts.Load() < 3 {
		t.Errorf("%d bytes sent in %d pieces for a layer of %d", sent.Load(), cuts.Load()+1, layer.Size)
	}
}

// A pull that was broken off, and whose process ended, goes on in the next one.
func TestPullResumesAfterRestart(t *testing.T) {
	dir, reg := t.TempDir(), newRegistry(t, false)
	noise := make([]byte, 4<<20)
	rand.Read(noise)
	built := imagetest.Build(t, simple("", "small", string(noise)))
	reg.push(t, "big", "1", built)
	layer := built.Manifest.Layers[1].Digest
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var ranges []string
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(built.Blobs[layer])))
		w.Write(built.Blobs[layer][:2<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done() // until the client has gone
		return true
	})
	c := Config{DataDir: dir, CertsDirs: []string{}}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	g.Go(func() error {
		_, err := s.Pull(ctx, reg.host()+"/big:1", runtime.PullOptions{})
		return err
	})
	waitPartial(t, s, built.Manifest.Layers[0], 1<<20)
	cancel()
	wantErr(t, g.Wait(), context.Canceled)
	s.Close()
	s = openStore(t, dir, nil)
	if _, err := s.Collect(t.Context()); err != nil { // must not take it
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), reg.host()+"/big:1", runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	var at int
	fmt.Sscanf(ranges[len(ranges)-1], "bytes=%d-", &at)
	if len(ranges) != 2 || at < 1<<20 {
		t.Errorf("asked for %q", ranges)
	}
	if n := reg.requests("GET /v2/big/blobs/" + built.Manifest.Layers[0].Digest.String()); n != 1 {
		t.Errorf("the finished layer was fetched %d times", n)
	}
}

// A registry that falls silent in the middle of a layer is asked again.
func TestPullStalled(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	s.stall = 100 * time.Millisecond
	built := imagetest.Build(t, simple("", "some content"))
	reg.push(t, "app", "1", built)
	layer := built.Manifest.Layers[0].Digest
	var asked atomic.Int64
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.String()) || asked.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(built.Blobs[layer])))
		w.Write(built.Blobs[layer][:10])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	if _, err := s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 2 {
		t.Errorf("the layer was asked for %d times", asked.Load())
	}
}

// waitPartial waits until one blob is whole and of another so many bytes are here.
func waitPartial(t *testing.T, s *Store, whole ocispec.Descriptor, size int64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		ctx := s.context(t.Context())
		done, _ := content.Exists(ctx, s.content, whole)
		partial, err := s.content.ListStatuses(ctx)
		if done && err == nil && slices.ContainsFunc(partial, func(p content.Status) bool { return p.Offset > size }) {
			return
		}
	}
	t.Fatal("no partial blob grew")
}
