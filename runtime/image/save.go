package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes the images to w as a tar archive that is an OCI layout and, by
// its manifest.json, also what `docker load` reads. A reference by ID saves all
// tags of the image. Nothing is written when one of refs is not found.
func (s *Store) Save(ctx context.Context, refs []string, w io.Writer) error {
	ctx = s.context(ctx)
	opts := []archive.ExportOpt{archive.WithPlatform(platforms.Default()), archive.WithAllPlatforms(), archive.WithSkipMissing(s.content)}
	seen := map[string]bool{}
	for _, ref := range refs {
		add, err := s.saveRef(ctx, ref, seen)
		if err != nil {
			return fmt.Errorf("save: %w", err)
		}
		opts = append(opts, add...)
	}
	if err := archive.Export(ctx, s.content, w, opts...); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// saveRef lists what to export for one reference, without what has been seen.
func (s *Store) saveRef(ctx context.Context, ref string, seen map[string]bool) ([]archive.ExportOpt, error) {
	f, err := s.find(ctx, ref, "")
	if err != nil {
		return nil, err
	}
	records := []string{f.record.Name}
	if !f.byName {
		if records, err = s.tagsOf(ctx, f); err != nil {
			return nil, err
		}
	}
	var opts []archive.ExportOpt
	for _, name := range records {
		if seen[name] {
			continue
		}
		seen[name] = true
		d := s.exported(f)
		if repository(name) == "" || isDigestName(name) {
			opts = append(opts, archive.WithManifest(d))
		} else {
			opts = append(opts, archive.WithManifest(d, name))
		}
	}
	return opts, nil
}

// exported is the whole index when this machine's platform is among what is
// here, because readers look for theirs; else the one manifest.
func (s *Store) exported(f *found) ocispec.Descriptor {
	if platforms.Default().Match(f.image.platform) {
		return f.record.Target
	}
	return f.image.manifest
}

// tagsOf lists the records of an image found by ID: its tags, or one without.
func (s *Store) tagsOf(ctx context.Context, f *found) ([]string, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, r := range records {
		vs, err := s.variants(ctx, r.Target)
		if err == nil && has(vs, f.image.id()) && repository(r.Name) != "" && !isDigestName(r.Name) {
			tags = append(tags, r.Name)
		}
	}
	if tags == nil {
		tags = []string{f.record.Name}
	}
	return tags, nil
}
