package image

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/dhow-project/dhow/runtime"
)

// DiskUsage says where the space of a store goes, in bytes.
type DiskUsage struct {
	Layers     int64 // unpacked layers, each counted once
	Content    int64 // compressed blobs
	Containers int64 // writable layers
	Images     []ImageUsage
}

// ImageUsage is one image's part.
type ImageUsage struct {
	runtime.Image
	Shared int64 // bytes of layers that other images use too
}

// DiskUsage measures the store. It walks the containers' writable layers,
// which takes time when they are large.
func (s *Store) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	ctx = s.context(ctx)
	all, err := s.inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("disk usage: %w", err)
	}
	groups, err := s.groups(ctx)
	if err != nil {
		return nil, err
	}
	u := &DiskUsage{}
	for key, size := range all {
		if strings.HasPrefix(key, "layer ") {
			u.Layers += size
		} else {
			u.Content += size
		}
	}
	users := map[digest.Digest]int{}
	for _, g := range groups {
		for _, c := range g.image.chains {
			users[c]++
		}
	}
	for _, g := range groups {
		i := ImageUsage{Image: g.describe()}
		for _, c := range g.image.chains {
			if users[c] > 1 {
				i.Shared += all["layer "+c.String()]
			}
		}
		u.Images = append(u.Images, i)
	}
	u.Containers, err = s.containersUsage(ctx)
	return u, err
}

func (s *Store) containersUsage(ctx context.Context) (total int64, _ error) {
	entries, err := os.ReadDir(s.rootfs)
	if err != nil {
		return 0, fmt.Errorf("disk usage: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		n, err := s.Usage(ctx, e.Name())
		if err != nil && ctx.Err() != nil {
			return 0, err
		}
		total += n // a layer that has just been removed counts nothing
	}
	return total, nil
}
