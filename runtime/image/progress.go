package image

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// progressInterval bounds how often one layer reports bytes.
const progressInterval = 100 * time.Millisecond

// progress tells a caller of a transfer what becomes of each layer, in
// Docker's words. It is safe for concurrent use.
type progress struct {
	emit  func(runtime.Progress) // nil: nobody listens
	final string                 // said of a layer that is unpacked

	mu     sync.Mutex
	last   map[digest.Digest]time.Time            // last report; guarded by mu
	chains map[digest.Digest]ocispec.Descriptor   // layer by chain ID; guarded by mu
	layers map[digest.Digest][]ocispec.Descriptor // by config digest; guarded by mu
	known  map[digest.Digest]bool                 // layers that were here before; guarded by mu
}

func newProgress(emit func(runtime.Progress), final string) *progress {
	return &progress{emit: emit, final: final, last: map[digest.Digest]time.Time{},
		chains: map[digest.Digest]ocispec.Descriptor{}, layers: map[digest.Digest][]ocispec.Descriptor{}, known: map[digest.Digest]bool{}}
}

// say reports on the image as a whole.
func (p *progress) say(id, status string) {
	if p.emit != nil {
		p.emit(runtime.Progress{ID: id, Status: status})
	}
}

func (p *progress) layer(d ocispec.Descriptor, status string, current int64) {
	if p.emit == nil {
		return
	}
	r := runtime.Progress{ID: short(d.Digest), Status: status, Current: current}
	if current > 0 {
		r.Total = d.Size
	}
	p.emit(r)
}

// bytes reports a count, unless it did so a moment ago.
func (p *progress) bytes(d ocispec.Descriptor, status string, n int64) {
	if p.emit == nil {
		return
	}
	now := time.Now()
	p.mu.Lock()
	skip := now.Sub(p.last[d.Digest]) < progressInterval
	if !skip {
		p.last[d.Digest] = now
	}
	p.mu.Unlock()
	if !skip && n > 0 {
		p.layer(d, status, n)
	}
}

func (p *progress) downloading(d ocispec.Descriptor, n int64) { p.bytes(d, "Downloading", n) }
func (p *progress) extracting(d ocispec.Descriptor, n int64)  { p.bytes(d, "Extracting", n) }

// unpacked reports the layer with this chain ID as done.
func (p *progress) unpacked(chain digest.Digest) {
	p.mu.Lock()
	d, ok := p.chains[chain]
	p.mu.Unlock()
	if ok && p.final != "" {
		p.layer(d, "Extracting", d.Size)
		p.layer(d, p.final, 0)
	}
}

// announce wraps a handler of descriptors. Once a config is here the layers
// are known, and each is told apart: here, or to come. check, when not nil,
// may refuse the config.
func (p *progress) announce(s *Store, h images.HandlerFunc, check func(configFile) error) images.HandlerFunc {
	return func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h(ctx, d)
		if err != nil {
			return children, err
		}
		switch {
		case images.IsManifestType(d.MediaType):
			p.learn(children)
		case images.IsConfigType(d.MediaType):
			var c configFile
			if err := s.readJSON(ctx, d, &c); err != nil {
				return nil, err
			}
			if check != nil {
				if err := check(c); err != nil {
					return nil, err
				}
			}
			p.tell(ctx, s, d.Digest, c.RootFS.DiffIDs)
		}
		return children, nil
	}
}

func (p *progress) learn(children []ocispec.Descriptor) {
	var config digest.Digest
	var layers []ocispec.Descriptor
	for _, c := range children {
		if images.IsLayerType(c.MediaType) {
			layers = append(layers, c)
		} else if images.IsConfigType(c.MediaType) {
			config = c.Digest
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers[config] = layers
}

func (p *progress) tell(ctx context.Context, s *Store, config digest.Digest, diffIDs []digest.Digest) {
	if p.emit == nil || p.final == "" {
		return
	}
	p.mu.Lock()
	layers := p.layers[config]
	p.mu.Unlock()
	for i, chain := range chainIDs(diffIDs) {
		if i >= len(layers) {
			return // refused when unpacking
		}
		_, err := s.snaps.Stat(ctx, chain.String())
		here, _ := content.Exists(ctx, s.content, layers[i])
		p.mu.Lock()
		p.chains[chain] = layers[i]
		p.known[layers[i].Digest] = here
		p.mu.Unlock()
		if err == nil && here {
			p.layer(layers[i], "Already exists", 0)
		} else {
			p.layer(layers[i], "Pulling fs layer", 0)
		}
	}
}

// wasHere tells whether a layer's blob needed no download.
func (p *progress) wasHere(d digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[d]
}
