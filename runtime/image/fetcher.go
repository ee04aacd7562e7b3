package image

import (
	"context"
	"errors"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// watchedFetcher counts the bytes of layers as they come in.
type watchedFetcher struct {
	remotes.Fetcher
	progress *progress
}

func (w watchedFetcher) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := w.Fetcher.Fetch(ctx, d)
	if err != nil || !images.IsLayerType(d.MediaType) {
		return rc, err
	}
	return &countedReader{ReadCloser: rc, desc: d, progress: w.progress}, nil
}

// countedReader seeks when what it reads does: a resumed download does.
type countedReader struct {
	io.ReadCloser
	desc     ocispec.Descriptor
	progress *progress
	n        int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	r.progress.downloading(r.desc, r.n)
	return n, err
}

func (r *countedReader) Seek(offset int64, whence int) (int64, error) {
	s, ok := r.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.New("registry does not resume downloads")
	}
	n, err := s.Seek(offset, whence)
	if err == nil {
		r.n = n
	}
	return n, err
}
