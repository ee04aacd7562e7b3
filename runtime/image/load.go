package image

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// Load reads an archive of images, an OCI layout or what `docker save` writes,
// plain or compressed with gzip or zstd, and unpacks them. It returns their
// names, and the ID of each that has none. On an error nothing has changed; a
// damaged archive wraps ErrInvalid.
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(runtime.Progress)) ([]string, error) {
	names, err := s.load(s.context(ctx), r, newProgress(progress, "Load complete"))
	if err != nil {
		return nil, fmt.Errorf("load: %w", s.explainDisk(err))
	}
	return names, nil
}

func (s *Store) load(ctx context.Context, r io.Reader, p *progress) (_ []string, err error) {
	id := rand.Text()
	ctx, l, err := s.lease(ctx, "load", digest.FromString(id))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			l.end(ctx)
			return
		}
		s.abort(context.WithoutCancel(ctx), id)
		s.abandon(ctx, l)
	}()
	index, err := s.importArchive(ctx, r, id)
	if err != nil {
		return nil, err
	}
	news, err := s.unpackArchive(ctx, index, p)
	if err != nil {
		return nil, damaged(ctx, err)
	}
	s.cache.forget()
	if err := s.setNames(ctx, news); err != nil {
		return nil, err
	}
	return s.loaded(ctx, news)
}

// importArchive stores the archive's blobs and returns its index.
func (s *Store) importArchive(ctx context.Context, r io.Reader, id string) (ocispec.Descriptor, error) {
	plain, err := compression.DecompressStream(bufio.NewReader(ctxReader{ctx, r}))
	if err != nil {
		return ocispec.Descriptor{}, damaged(ctx, err)
	}
	defer plain.Close()
	index, err := archive.ImportIndex(ctx, loadStore{s.content, id}, plain)
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // a checksum may follow
	}
	if err != nil {
		return ocispec.Descriptor{}, damaged(ctx, err)
	}
	return index, nil
}

// unpackArchive unpacks all that the index names, each once.
func (s *Store) unpackArchive(ctx context.Context, desc ocispec.Descriptor, p *progress) ([]named, error) {
	var index ocispec.Index
	if err := s.readJSON(ctx, desc, &index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if len(index.Manifests) == 0 {
		return nil, fmt.Errorf("no image in it: %w", runtime.ErrInvalid)
	}
	var news []named
	done := map[digest.Digest]bool{}
	for _, m := range index.Manifests {
		if isAttestation(m) {
			continue
		}
		if err := m.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("index: digest %q: %w", m.Digest, err)
		}
		if !done[m.Digest] {
			if err := s.unpackTarget(ctx, m, p); err != nil {
				return nil, err
			}
			done[m.Digest] = true
		}
		name, err := archiveName(m)
		if err != nil {
			return nil, err
		}
		news = append(news, named{record: name, target: m})
	}
	return news, nil
}

// unpackTarget unpacks one image of the archive: of an index the variant for
// this machine, or else any that is there.
func (s *Store) unpackTarget(ctx context.Context, m ocispec.Descriptor, p *progress) error {
	here, err := content.Exists(ctx, s.content, m)
	if err != nil {
		return err
	}
	if !here {
		return missingBlob(m)
	}
	s.cache.forget()
	vs, err := s.variants(ctx, m)
	if errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("image %s: its manifest or config is missing or altered: %w", short(m.Digest), runtime.ErrInvalid)
	}
	if err != nil {
		return err
	}
	if images.IsIndexType(m.MediaType) {
		// Keep all that is there, also other platforms' content.
		if err := s.labelTree(ctx, m); err != nil {
			return err
		}
	}
	return s.unpackManifest(ctx, vs[0].manifest, p)
}

// labelTree ties everything below an index to it, for the collector.
func (s *Store) labelTree(ctx context.Context, m ocispec.Descriptor) error {
	children := images.SetChildrenMappedLabels(s.content, images.ChildrenHandler(s.content), images.ChildGCLabels)
	return images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if !images.IsIndexType(d.MediaType) && !images.IsManifestType(d.MediaType) {
			return nil, nil
		}
		if ok, err := content.Exists(ctx, s.content, d); err != nil || !ok {
			return nil, err
		}
		return children(ctx, d)
	}), m)
}

// archiveName reads an image's name in an archive; "" when it has none. A bare
// tag, as the OCI layout also allows, names nothing.
func archiveName(m ocispec.Descriptor) (string, error) {
	name := m.Annotations[images.AnnotationImageName]
	if name == "" {
		name = m.Annotations[ocispec.AnnotationRefName]
		if !strings.ContainsAny(name, ":/") {
			return "", nil
		}
	}
	n, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w: %w", name, err, runtime.ErrInvalid)
	}
	return n.String(), nil
}

// loaded names what has been loaded, in the archive's order.
func (s *Store) loaded(ctx context.Context, news []named) ([]string, error) {
	var names []string
	for _, n := range news {
		name := familiar(n.record)
		if n.record == "" {
			vs, err := s.variants(ctx, n.target)
			if err != nil {
				return nil, err
			}
			name = vs[0].info.ID
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		s.log.Info("loaded image", "image", name, "digest", n.target.Digest)
		s.publish("load", name, name)
	}
	return names, nil
}

// damaged says that an error lies in the archive, unless it does not.
func damaged(ctx context.Context, err error) error {
	var read *readError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &read) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read archive: %w", read.err)
	case isDiskFull(err):
		return err
	case errdefs.IsNotFound(err):
		err = fmt.Errorf("a part of it is missing or altered: %w", err)
	}
	return &damagedError{err}
}

// damagedError is runtime.ErrInvalid in one line.
type damagedError struct{ err error }

func (e *damagedError) Error() string {
	return "the archive is damaged or not an image archive: " + e.err.Error()
}

func (e *damagedError) Unwrap() []error { return []error{e.err, runtime.ErrInvalid} }

// loadStore gives partial blobs of one load references of their own: the names
// in an archive say nothing about the bytes.
type loadStore struct {
	content.Store
	id string
}

func (l loadStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var w content.WriterOpts
	for _, o := range opts {
		if err := o(&w); err != nil {
			return nil, err
		}
	}
	return l.Store.Writer(ctx, append(slices.Clone(opts), content.WithRef(l.id+"/"+w.Ref))...)
}

// ctxReader stops with its context and marks errors of the source.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}
