package image

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"github.com/dhow-project/dhow/runtime"
)

// danglingPrefix names records of images without a tag. A normalized name
// always has a slash before its first @, so that the two never meet.
const danglingPrefix = "dangling@"

var idPattern = regexp.MustCompile(`^(sha256:)?([0-9a-f]{4,64})$`)

// parseName makes "redis" docker.io/library/redis:latest. A digest wins over a
// tag beside it.
func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w: %w", ref, err, runtime.ErrInvalid)
	}
	return named, nil
}

// familiar is the name as people write it; "" for a record without one.
func familiar(record string) string {
	if strings.HasPrefix(record, danglingPrefix) {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(record)
	if err != nil {
		return record
	}
	return reference.FamiliarString(named)
}

// repository of a record, normalized; "" for a record without a name.
func repository(record string) string {
	if strings.HasPrefix(record, danglingPrefix) {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(record)
	if err != nil {
		return ""
	}
	return named.Name()
}

func isDigestName(record string) bool { return strings.Contains(record, "@") }

// recordCache keeps the list of records between changes; all go through names.
type recordCache struct {
	mu    sync.RWMutex
	valid bool           // guarded by mu
	list  []images.Image // guarded by mu; its elements are never changed
}

// records lists all names. The caller must not change them.
func (s *Store) records(ctx context.Context) ([]images.Image, error) {
	c := &s.recorded
	c.mu.RLock()
	list, valid := c.list, c.valid
	c.mu.RUnlock()
	if valid {
		return list, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := s.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	c.list, c.valid = list, true
	return list, nil
}

// names changes records in one transaction. change sees all of them by name.
func (s *Store) names(ctx context.Context, change func(ctx context.Context, all map[string]images.Image) error) error {
	s.recorded.mu.Lock()
	defer s.recorded.mu.Unlock()
	s.recorded.valid = false
	return s.db.Update(func(tx *bolt.Tx) error {
		ctx := boltutil.WithTransaction(ctx, tx)
		list, err := s.images.List(ctx)
		if err != nil {
			return err
		}
		all := make(map[string]images.Image, len(list))
		for _, r := range list {
			all[r.Name] = r
		}
		return change(ctx, all)
	})
}

// named is a name and what it shall point to.
type named struct {
	record string // normalized; "" gives the image no name
	target ocispec.Descriptor
	pinned bool // the name came with an image that a deployment needed; no person said what it means here
}

// pinnedLabel marks such records. The next deployment may move them.
const pinnedLabel = "dhow.pinned"

func (n named) labels() map[string]string {
	if n.pinned {
		return map[string]string{pinnedLabel: "true"}
	}
	return nil
}

// setNames writes names, all or none. An image that loses its last name to
// another stays, dangling, until it is pruned.
func (s *Store) setNames(ctx context.Context, news []named) error {
	return s.names(ctx, func(ctx context.Context, all map[string]images.Image) error {
		var losers []ocispec.Descriptor
		for _, n := range news {
			n.target = withoutNames(n.target)
			if n.record == "" {
				losers = append(losers, n.target)
				continue
			}
			old, exists := all[n.record]
			r := images.Image{Name: n.record, Target: n.target, Labels: n.labels()}
			var err error
			switch {
			case !exists:
				r, err = s.images.Create(ctx, r)
			case old.Target.Digest != n.target.Digest:
				losers = append(losers, old.Target)
				r, err = s.images.Update(ctx, r, "target", "labels")
			case old.Labels[pinnedLabel] != "" && !n.pinned:
				r, err = s.images.Update(ctx, r, "labels")
			default:
				continue
			}
			if err != nil {
				return fmt.Errorf("name %s: %w", familiar(n.record), err)
			}
			all[n.record] = r
		}
		return s.dangleLocked(ctx, all, losers)
	})
}

// dangleLocked keeps targets that no record names any longer and drops
// dangling records of targets that have a name. It runs in a transaction.
func (s *Store) dangleLocked(ctx context.Context, all map[string]images.Image, losers []ocispec.Descriptor) error {
	held := map[digest.Digest]bool{}
	for name, r := range all {
		if !strings.HasPrefix(name, danglingPrefix) {
			held[r.Target.Digest] = true
		}
	}
	for name, r := range all {
		if strings.HasPrefix(name, danglingPrefix) && held[r.Target.Digest] {
			if err := s.images.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	for _, t := range losers {
		if held[t.Digest] {
			continue
		}
		held[t.Digest] = true
		_, err := s.images.Create(ctx, images.Image{Name: danglingPrefix + t.Digest.String(), Target: t})
		if err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// withoutNames drops annotations that an archive's index put on a descriptor.
func withoutNames(d ocispec.Descriptor) ocispec.Descriptor {
	d.Annotations = nil
	d.URLs, d.Data = nil, nil
	return d
}
