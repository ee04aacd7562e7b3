package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Collect frees what no image, container or transfer needs and returns the
// bytes. Remove and Prune do it themselves.
func (s *Store) Collect(ctx context.Context) (int64, error) {
	gone, err := s.collect(s.context(ctx))
	return gone.bytes, err
}

// collected is what a collection has freed.
type collected struct {
	bytes  int64
	layers []string // chain IDs, sorted
}

func (s *Store) collect(ctx context.Context) (collected, error) {
	if err := s.dropViews(ctx); err != nil {
		return collected{}, fmt.Errorf("collect: %w", err)
	}
	before, err := s.inventory(ctx)
	if err != nil {
		return collected{}, fmt.Errorf("collect: %w", err)
	}
	if _, err := s.db.GarbageCollect(ctx); err != nil {
		return collected{}, fmt.Errorf("collect: %w", err)
	}
	after, err := s.inventory(ctx)
	s.cache.forget()
	if err != nil {
		return collected{}, fmt.Errorf("collect: %w", err)
	}
	var gone collected
	for key, size := range before {
		if _, stays := after[key]; stays {
			continue
		}
		gone.bytes += size
		if chain, ok := strings.CutPrefix(key, "layer "); ok && digest.Digest(chain).Validate() == nil {
			gone.layers = append(gone.layers, chain)
		}
	}
	slices.Sort(gone.layers)
	if gone.bytes > 0 {
		s.log.Info("collected", "bytes", gone.bytes, "layers", len(gone.layers))
	}
	return gone, nil
}

// dropViews lets go of chains that no container hangs on. While it looks, no
// container can come.
func (s *Store) dropViews(ctx context.Context) error {
	s.gc.Lock()
	defer s.gc.Unlock()
	pinned, err := s.pinned()
	if err != nil {
		return err
	}
	var free []string
	err = s.snaps.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		chain, ok := strings.CutPrefix(i.Name, viewPrefix)
		if ok && !pinned[digest.Digest(chain)] {
			free = append(free, i.Name)
		}
		return nil
	})
	s.cache.reset()
	for _, key := range free {
		if rerr := s.snaps.Remove(ctx, key); rerr != nil && !errdefs.IsNotFound(rerr) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// inventory lists blobs and unpacked layers with their sizes.
func (s *Store) inventory(ctx context.Context) (map[string]int64, error) {
	all := map[string]int64{}
	err := s.content.Walk(ctx, func(i content.Info) error {
		all["blob "+i.Digest.String()] = i.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	var layers []string
	err = s.snaps.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind == snapshots.KindCommitted {
			layers = append(layers, i.Name)
		}
		return nil
	})
	for _, l := range layers {
		u, uerr := s.snaps.Usage(ctx, l)
		if uerr != nil && !errdefs.IsNotFound(uerr) {
			err = errors.Join(err, uerr)
		}
		all["layer "+l] = u.Size
	}
	return all, err
}

func targets(records []images.Image) []ocispec.Descriptor {
	var ts []ocispec.Descriptor
	for _, r := range records {
		ts = append(ts, r.Target)
	}
	return ts
}
