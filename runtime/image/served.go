package image

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
)

// servedFor is how long an image that another node has asked for stays when
// nothing more of it is asked for.
const servedFor = time.Minute

// served are the images that others are fetching. Each has a lease, so that
// removing it here does not take it away under them.
type served struct {
	keep time.Duration

	mu     sync.Mutex
	held   map[digest.Digest]*holding   // by manifest; guarded by mu
	blobs  map[digest.Digest][]*holding // by config and layer; guarded by mu
	closed bool                         // guarded by mu
}

type holding struct {
	image *resolved
	lease *lease
	timer *time.Timer
}

func newServed() *served {
	return &served{keep: servedFor, held: map[digest.Digest]*holding{}, blobs: map[digest.Digest][]*holding{}}
}

// hold keeps the content of an image until it has not been asked for for a while.
func (v *served) hold(s *Store, r *resolved) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if h := v.held[r.manifest.Digest]; h != nil {
		h.timer.Reset(v.keep)
		return nil
	}
	if v.closed {
		return nil
	}
	ctx, l, err := s.lease(s.context(context.Background()), "serve", r.manifest.Digest)
	if err != nil {
		return err
	}
	// What is below the manifest hangs on it by its labels.
	err = s.leases.AddResource(ctx, leases.Lease{ID: l.id}, leases.Resource{ID: r.manifest.Digest.String(), Type: "content"})
	if err != nil {
		l.end(ctx)
		return err
	}
	h := &holding{image: r, lease: l}
	h.timer = time.AfterFunc(v.keep, func() { v.release(s, h) })
	v.held[r.manifest.Digest] = h
	for _, d := range r.blobs() {
		v.blobs[d] = append(v.blobs[d], h)
	}
	return nil
}

// blobs are the config and the layers.
func (r *resolved) blobs() []digest.Digest {
	out := []digest.Digest{r.id()}
	for _, l := range r.layers {
		out = append(out, l.Digest)
	}
	return out
}

// touch tells that a blob has been asked for.
func (v *served) touch(d digest.Digest) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, h := range v.blobs[d] {
		h.timer.Reset(v.keep)
	}
}

// release lets go of an image, and collects what nothing else holds.
func (v *served) release(s *Store, h *holding) {
	v.mu.Lock()
	if v.closed || v.held[h.image.manifest.Digest] != h {
		v.mu.Unlock()
		return
	}
	v.dropLocked(h)
	s.work.Add(1)
	v.mu.Unlock()
	defer s.work.Done()
	ctx := s.context(context.Background())
	h.lease.end(ctx)
	if _, err := s.findID(ctx, "", h.image.manifest.Digest.Encoded(), nil); err == nil {
		return
	}
	if _, err := s.collect(ctx); err != nil {
		s.log.Warn("collect after serving", "err", err)
	}
}

func (v *served) dropLocked(h *holding) {
	delete(v.held, h.image.manifest.Digest)
	for _, d := range h.image.blobs() {
		var rest []*holding
		for _, o := range v.blobs[d] {
			if o != h {
				rest = append(rest, o)
			}
		}
		if v.blobs[d] = rest; rest == nil {
			delete(v.blobs, d)
		}
	}
}

// close ends all leases.
func (v *served) close(s *Store) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for _, h := range v.held {
		h.timer.Stop()
		h.lease.end(s.context(context.Background()))
	}
}
