package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	askedAtOnce = 3                // blobs that this store fetches from one node at a time
	silentFor   = 10 * time.Second // that a node which did not answer is not asked again
)

// How a node's answer ended, beside success.
var (
	errBusy  = errors.New("is busy")
	errLacks = errors.New("does not have it")
)

// neighbours remember how other nodes answered, for all pulls of a store.
type neighbours struct {
	answer time.Duration // time that a node has until its answer begins
	stall  time.Duration // silence after which a transfer is given up

	mu     sync.Mutex
	silent map[string]time.Time     // until when a node is left alone; guarded by mu
	slots  map[string]chan struct{} // guarded by mu
}

func newNeighbours() *neighbours {
	return &neighbours{answer: 3 * time.Second, stall: 15 * time.Second, silent: map[string]time.Time{}, slots: map[string]chan struct{}{}}
}

// isSilent tells nodes that are left alone for now.
func (n *neighbours) isSilent(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Before(n.silent[node])
}

func (n *neighbours) heard(node string, answers bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.silent, node)
	if !answers {
		n.silent[node] = time.Now().Add(silentFor)
	}
}

// take reserves a transfer from a node; nil when there are enough.
func (n *neighbours) take(node string) (release func()) {
	n.mu.Lock()
	slots := n.slots[node]
	if slots == nil {
		slots = make(chan struct{}, askedAtOnce)
		n.slots[node] = slots
	}
	n.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return sync.OnceFunc(func() { <-slots })
	default:
		return nil
	}
}

// get sends one request to a node. An answer that does not begin in time ends
// it, and so does silence later. The body must be closed.
func (n *neighbours) get(ctx context.Context, peers Peers, node, path string, header http.Header) (*http.Response, error) {
	client := peers.Client(node)
	if client == nil {
		return nil, errors.New("cannot be reached")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	guard := time.AfterFunc(n.answer, func() { cancel(fmt.Errorf("no answer for %s", n.answer)) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: "http", Host: node, Path: path}).String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "dhow")
	resp, err := client.Do(req)
	if err != nil {
		guard.Stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &guardedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, guard: guard, stall: n.stall}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return resp, nil
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		err = errBusy
	case http.StatusNotFound:
		err = errLacks
	default:
		err = fmt.Errorf("answers %s", resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// guardedBody ends with an error when no byte comes for a while.
type guardedBody struct {
	io.ReadCloser
	ctx    context.Context // of the request: says why it was ended
	cancel context.CancelCauseFunc
	guard  *time.Timer
	stall  time.Duration
}

func (b *guardedBody) Read(p []byte) (int, error) {
	b.guard.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && context.Cause(b.ctx) != nil { //nolint:errorlint // the value itself: a wrapped one is a body cut short
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *guardedBody) Close() error {
	b.guard.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// manifest asks a node for an index or manifest, by tag, digest or image ID.
func (n *neighbours) manifest(ctx context.Context, peers Peers, node, name, ref string) (ocispec.Descriptor, []byte, error) {
	resp, err := n.get(ctx, peers, node, "/v2/"+name+"/manifests/"+ref, nil)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON+1))
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d := ocispec.Descriptor{MediaType: resp.Header.Get("Content-Type"), Digest: digest.FromBytes(data), Size: int64(len(data))}
	switch {
	case len(data) > maxJSON:
		return d, nil, fmt.Errorf("sends a manifest larger than %d bytes", maxJSON)
	case !images.IsManifestType(d.MediaType) && !images.IsIndexType(d.MediaType):
		return d, nil, fmt.Errorf("sends %s instead of a manifest", mediaType(d))
	case resp.Header.Get("Docker-Content-Digest") != d.Digest.String():
		return d, nil, errors.New("sends a damaged manifest")
	}
	return d, data, nil
}

// blob opens a blob of a node from an offset on.
func (n *neighbours) blob(ctx context.Context, peers Peers, node, name string, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := n.get(ctx, peers, node, "/v2/"+name+"/blobs/"+d.Digest.String(), header)
	if err != nil {
		return nil, err
	}
	from := "bytes 0-"
	if offset > 0 {
		from = fmt.Sprintf("bytes %d-", offset)
	}
	if (offset > 0 || resp.StatusCode == http.StatusPartialContent) && !strings.HasPrefix(resp.Header.Get("Content-Range"), from) {
		return nil, errors.Join(errors.New("does not send the range that it is asked for"), resp.Body.Close())
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size-offset {
		return nil, errors.Join(fmt.Errorf("sends %d bytes instead of %d", resp.ContentLength, d.Size-offset), resp.Body.Close())
	}
	return resp.Body, nil
}
