package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

const (
	hedge    = 250 * time.Millisecond // until another node is asked for a manifest beside the first
	lackFor  = 2 * time.Second        // that a node which lacks something is not asked for it again
	patience = 3 * time.Second        // with busy nodes, where there is a registry too
)

// peerSource fetches one image from other nodes, and what they do not give
// from the registry. It is a remotes.Fetcher for any number of goroutines.
type peerSource struct {
	store    *Store
	peers    Peers
	name     string          // repository, whole
	registry remotes.Fetcher // nil: nodes only
	progress *progress

	mu        sync.Mutex
	keys      []string                          // that Peers is asked for; guarded by mu
	manifests map[digest.Digest][]byte          // guarded by mu
	useless   map[string]useless                // by node and digest; guarded by mu
	gave      map[digest.Digest]map[string]bool // who sent bytes of a blob; guarded by mu
	from      map[string]bool                   // names of nodes that sent any; guarded by mu
}

// peerSource returns nil where there are no other nodes.
func (s *Store) peerSource(name reference.Named, p *progress) *peerSource {
	if s.cfg.Peers == nil {
		return nil
	}
	return &peerSource{store: s, peers: s.cfg.Peers, name: name.Name(), progress: p,
		manifests: map[digest.Digest][]byte{}, useless: map[string]useless{}, gave: map[digest.Digest]map[string]bool{}, from: map[string]bool{}}
}

// resolve finds the first of refs (tags, digests, image IDs) that another node
// has. The error tells what the nodes said; it wraps ErrNotFound or, when some
// did not answer, ErrUnavailable.
func (p *peerSource) resolve(ctx context.Context, refs ...string) (ocispec.Descriptor, error) {
	var errs []error
	for _, ref := range refs {
		key := ref
		if digest.Digest(ref).Validate() != nil {
			key = p.name + ":" + ref
		}
		p.learn(key)
		d, node, err := p.manifest(ctx, key, ref)
		if err == nil {
			p.progress.say("", "Pulling from node "+p.peers.Name(node))
			p.learn(d.Digest.String())
			return d, nil
		}
		errs = append(errs, err)
	}
	return ocispec.Descriptor{}, errors.Join(errs...)
}

// learn adds a key that Peers knows the image by.
func (p *peerSource) learn(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.keys, key) {
		p.keys = append(p.keys, key)
	}
}

type manifestAnswer struct {
	node string
	desc ocispec.Descriptor
	data []byte
	err  error
}

// manifest asks one node after the other, and the next one early when an
// answer takes its time, so that a node that has just died costs little.
func (p *peerSource) manifest(ctx context.Context, key, ref string) (ocispec.Descriptor, string, error) {
	nodes, said := p.candidates(ctx, []string{key}, digest.Digest(ref))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan manifestAnswer, len(nodes))
	asking := 0
	next := func() {
		if len(nodes) == 0 {
			return
		}
		node := nodes[0]
		nodes = nodes[1:]
		asking++
		go func() {
			a := manifestAnswer{node: node}
			a.desc, a.data, a.err = p.store.near.manifest(ctx, p.peers, node, p.name, ref)
			answers <- a
		}()
	}
	next()
	early := time.NewTicker(hedge)
	defer early.Stop()
	for asking > 0 {
		select {
		case <-ctx.Done():
			return ocispec.Descriptor{}, "", ctx.Err()
		case <-early.C:
			next()
		case a := <-answers:
			asking--
			if a.err == nil {
				a.err = fits(a, ref)
			}
			if a.err == nil {
				p.store.near.heard(a.node, true)
				p.mu.Lock()
				p.manifests[a.desc.Digest] = a.data
				p.mu.Unlock()
				return a.desc, a.node, nil
			}
			said = append(said, p.judge(ctx, a.node, digest.Digest(ref), a.err)...)
			next()
		}
	}
	return ocispec.Descriptor{}, "", nobody(said)
}

// fits checks that an answer is what was asked for: the digest itself, or the
// manifest of the image with that ID.
func fits(a manifestAnswer, ref string) error {
	d := digest.Digest(ref)
	if isDigest := d.Validate() == nil; !isDigest || a.desc.Digest == d {
		return nil // a name has nothing to check an answer by
	}
	var m ocispec.Manifest
	if images.IsManifestType(a.desc.MediaType) && json.Unmarshal(a.data, &m) == nil && m.Config.Digest == d {
		return nil
	}
	return errors.New("sends another manifest than it is asked for")
}

// candidates are the nodes worth asking for something, and what is known of the others.
func (p *peerSource) candidates(ctx context.Context, keys []string, d digest.Digest) (nodes []string, said []error) {
	for _, key := range keys {
		for _, node := range p.peers.Peers(ctx, key) {
			if slices.Contains(nodes, node) {
				continue
			}
			p.mu.Lock()
			u := p.useless[node+" "+d.String()]
			p.mu.Unlock()
			switch {
			case u.why != "":
				said = append(said, fmt.Errorf("node %s %s", p.peers.Name(node), u.why))
			case time.Now().Before(u.until):
			case p.store.near.isSilent(node):
				said = append(said, &silentError{p.peers.Name(node), "did not answer a moment ago"})
			default:
				nodes = append(nodes, node)
			}
		}
	}
	return nodes, said
}

// silentError is a node that may have what is asked for, but did not answer.
type silentError struct{ node, why string }

func (e *silentError) Error() string { return "node " + e.node + ": " + e.why }

// judge remembers why a node did not give something, and says it. A node that
// is busy says nothing.
func (p *peerSource) judge(ctx context.Context, node string, d digest.Digest, err error) []error {
	switch {
	case ctx.Err() != nil, errors.Is(err, errBusy):
		return nil
	case errors.Is(err, errLacks):
		p.store.near.heard(node, true)
		p.blame(node, d, useless{until: time.Now().Add(lackFor)})
		return nil // the list of nodes was only a guess
	}
	p.store.near.heard(node, false)
	p.store.log.Info("node does not send an image", "peer", node, "image", p.name, "digest", d, "err", err)
	return []error{&silentError{p.peers.Name(node), err.Error()}}
}

// useless is why a node is not asked for something again.
type useless struct {
	why   string    // for good
	until time.Time // it may have it by then
}

func (p *peerSource) blame(node string, d digest.Digest, u useless) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.useless[node+" "+d.String()] = u
}

// nobody is the error when no node gives something.
func nobody(said []error) error {
	var silent *silentError
	if err := errors.Join(said...); err != nil {
		kind := runtime.ErrNotFound
		if errors.As(err, &silent) {
			kind = runtime.ErrUnavailable
		}
		return &nobodyError{strings.ReplaceAll(err.Error(), "\n", ", "), kind}
	}
	return &nobodyError{"", runtime.ErrNotFound}
}

// nobodyError tells that no other node gave an image, and why.
type nobodyError struct {
	said string
	kind error
}

func (e *nobodyError) Error() string {
	if e.said == "" {
		return "no other node has it"
	}
	return "no other node gives it (" + e.said + ")"
}

func (e *nobodyError) Unwrap() error { return e.kind }

// Fetch opens a blob or manifest. It connects when it is first read.
func (p *peerSource) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if images.IsManifestType(d.MediaType) || images.IsIndexType(d.MediaType) {
		return p.fetchManifest(ctx, d)
	}
	return &peerBlob{source: p, ctx: ctx, desc: d}, nil
}

func (p *peerSource) fetchManifest(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	p.mu.Lock()
	data, keys := p.manifests[d.Digest], slices.Clone(p.keys)
	p.mu.Unlock()
	if data != nil {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	var failed error
	for _, key := range append([]string{d.Digest.String()}, keys...) {
		_, _, err := p.manifest(ctx, key, d.Digest.String())
		if err == nil {
			return p.fetchManifest(ctx, d)
		}
		if failed = err; ctx.Err() != nil {
			return nil, err
		}
	}
	if p.registry == nil {
		return nil, failed
	}
	return p.registry.Fetch(ctx, d)
}

// open finds a node that sends a blob from an offset on. While all that have it
// are busy it waits, and asks again who has it: each node that is done can
// serve others.
func (p *peerSource) open(ctx context.Context, d ocispec.Descriptor, offset int64, last string) (rc io.ReadCloser, node string, err error) {
	began, wait := time.Now(), 50*time.Millisecond
	for {
		p.mu.Lock()
		keys := slices.Clone(p.keys)
		p.mu.Unlock()
		nodes, said := p.candidates(ctx, keys, d.Digest)
		if i := slices.Index(nodes, last); i >= 0 { // whoever broke off comes last
			nodes = append(slices.Delete(nodes, i, i+1), last)
		}
		busy := false
		for _, node := range nodes {
			rc, err := p.openAt(ctx, node, d, offset)
			if err == nil {
				return rc, node, nil
			}
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
			busy = busy || errors.Is(err, errBusy)
			said = append(said, p.judge(ctx, node, d.Digest, err)...)
		}
		if !busy || p.registry != nil && time.Since(began) > patience {
			return nil, "", nobody(said)
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)): // apart from the others that wait
		}
		wait = min(2*wait, time.Second)
	}
}

func (p *peerSource) openAt(ctx context.Context, node string, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	release := p.store.near.take(node)
	if release == nil {
		return nil, errBusy
	}
	body, err := p.store.near.blob(ctx, p.peers, node, p.name, d, offset)
	if err != nil {
		release()
		return nil, err
	}
	p.store.near.heard(node, true)
	name := p.peers.Name(node)
	p.mu.Lock()
	if p.gave[d.Digest] == nil {
		p.gave[d.Digest] = map[string]bool{}
	}
	p.gave[d.Digest][node], p.from[name] = true, true
	p.mu.Unlock()
	if images.IsLayerType(d.MediaType) {
		p.progress.layer(d, "Downloading from node "+name, 0)
	}
	return closer{body, func() error { release(); return body.Close() }}, nil
}

type closer struct {
	io.Reader
	close func() error
}

func (c closer) Close() error { return c.close() }

// damaged takes back what nodes have sent of a blob that turned out not to be
// what its digest says, and reports whether there were any.
func (p *peerSource) damaged(d digest.Digest) bool {
	p.mu.Lock()
	nodes := slices.Sorted(maps.Keys(p.gave[d]))
	delete(p.gave, d)
	p.mu.Unlock()
	for _, node := range nodes {
		p.store.log.Warn("node sent a damaged blob; suspect its disk", "peer", node, "image", p.name, "digest", d)
		p.blame(node, d, useless{why: "sends it damaged"})
	}
	return len(nodes) > 0
}

// sources are the names of the nodes that sent something, sorted.
func (p *peerSource) sources() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.from))
}
