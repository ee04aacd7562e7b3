package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"

	"github.com/dhow-project/dhow/runtime"
)

// Tag gives the image that ref names a further name. The image that had it
// before keeps its other names, or becomes dangling.
func (s *Store) Tag(ctx context.Context, ref, newRef string) error {
	ctx = s.context(ctx)
	name, err := parseName(newRef)
	if err != nil {
		return err
	}
	if _, ok := name.(reference.Digested); ok {
		return fmt.Errorf("tag %s: a tag cannot carry a digest: %w", newRef, runtime.ErrInvalid)
	}
	f, err := s.find(ctx, ref, "")
	if err != nil {
		return err
	}
	if err := s.setNames(ctx, []named{{record: name.String(), target: f.record.Target}}); err != nil {
		return fmt.Errorf("tag %s: %w", newRef, err)
	}
	s.publish("tag", f.image.info.ID, reference.FamiliarString(name))
	return nil
}

// Remove takes away a name, and with the last one the image. A reference by ID
// takes away all names, which needs force when there are several. An image
// that containers use is refused with ErrConflict; with force it loses its
// names, and stays for as long as they use it. Docker's prune of untagged
// parents has no meaning here: an image has no parents.
func (s *Store) Remove(ctx context.Context, ref string, force, _ bool) (runtime.PruneReport, error) {
	ctx = s.context(ctx)
	f, err := s.find(ctx, ref, "")
	if err != nil {
		return runtime.PruneReport{}, err
	}
	g, err := s.groupOf(ctx, f)
	if err != nil {
		return runtime.PruneReport{}, err
	}
	doomed, err := s.doomed(g, f, ref, force)
	if err != nil {
		return runtime.PruneReport{}, err
	}
	last := len(doomed) == len(g.records)
	inUse, err := s.inUse()
	if err != nil {
		return runtime.PruneReport{}, fmt.Errorf("remove image %s: %w", ref, err)
	}
	users := inUse[g.image.info.ID]
	if last && len(users) > 0 && !force {
		return runtime.PruneReport{}, fmt.Errorf("remove image %s: container %s uses it; remove that first, or force: %w", ref, strings.Join(users, ", "), runtime.ErrConflict)
	}
	return s.drop(ctx, []removal{{g.image, doomed, last && len(users) > 0}})
}

// groupOf returns the image with all records that lead to it.
func (s *Store) groupOf(ctx context.Context, f *found) (*group, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	g := &group{image: f.image}
	for _, r := range records {
		if vs, err := s.variants(ctx, r.Target); err == nil && has(vs, f.image.id()) {
			g.records = append(g.records, r)
		}
	}
	return g, nil
}

// doomed chooses the records that a removal takes away.
func (s *Store) doomed(g *group, f *found, ref string, force bool) ([]images.Image, error) {
	if !f.byName {
		var tags []string
		for _, r := range g.records {
			if name := familiar(r.Name); name != "" && !isDigestName(r.Name) {
				tags = append(tags, name)
			}
		}
		if len(tags) > 1 && !force {
			return nil, fmt.Errorf("remove image %s: it is tagged %s; remove the tags, or force: %w", ref, strings.Join(tags, ", "), runtime.ErrConflict)
		}
		return g.records, nil
	}
	var gone, rest []images.Image
	for _, r := range g.records {
		if r.Name == f.record.Name {
			gone = append(gone, r)
		} else {
			rest = append(rest, r)
		}
	}
	// The digests by which a repository's image was pulled go with its last tag.
	others := slices.ContainsFunc(rest, func(r images.Image) bool {
		return repository(r.Name) != repository(f.record.Name) || !isDigestName(r.Name)
	})
	if !others {
		gone = append(gone, rest...)
	}
	return gone, nil
}

// inUse names the containers by the ID of the image that they use.
func (s *Store) inUse() (map[string][]string, error) {
	if s.cfg.InUse == nil {
		return nil, nil
	}
	users, err := s.cfg.InUse()
	if err != nil {
		return nil, fmt.Errorf("find the containers that use images: %w", err)
	}
	return users, nil
}

// removal is one image's part of a Remove or Prune.
type removal struct {
	image   *resolved
	records []images.Image
	keep    bool // the image stays, without a name
}

// drop deletes the records in one transaction and collects what nobody needs.
func (s *Store) drop(ctx context.Context, removals []removal) (runtime.PruneReport, error) {
	var report runtime.PruneReport
	err := s.names(ctx, func(ctx context.Context, all map[string]images.Image) error {
		report = runtime.PruneReport{}
		for _, rm := range removals {
			for _, r := range rm.records {
				if now, ok := all[r.Name]; !ok || now.Target.Digest != r.Target.Digest {
					continue // renamed in the meantime
				}
				if err := s.images.Delete(ctx, r.Name); err != nil {
					return err
				}
				delete(all, r.Name)
				if name := familiar(r.Name); name != "" {
					report.Untagged = append(report.Untagged, name)
				}
			}
			if rm.keep {
				if err := s.dangleLocked(ctx, all, targets(rm.records[:1])); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("remove image: %w", err)
	}
	for _, name := range report.Untagged {
		s.publish("untag", name, name)
	}
	gone, err := s.collect(ctx)
	report.Reclaimed = gone.bytes
	for _, rm := range removals {
		if _, err := s.find(ctx, rm.image.info.ID, ""); err != nil {
			report.Deleted = append(report.Deleted, rm.image.info.ID)
			s.log.Info("removed image", "id", rm.image.info.ID)
			s.publish("delete", rm.image.info.ID, rm.image.info.ID)
		}
	}
	report.Deleted = append(report.Deleted, gone.layers...)
	return report, err
}

// Prune removes dangling images, or with all those that no container uses.
// Labels must match the image's; an empty value asks for the key only.
func (s *Store) Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error) {
	ctx = s.context(ctx)
	groups, err := s.groups(ctx)
	if err != nil {
		return runtime.PruneReport{}, err
	}
	inUse, err := s.inUse()
	if err != nil {
		return runtime.PruneReport{}, fmt.Errorf("prune images: %w", err)
	}
	var removals []removal
	for _, g := range groups {
		if !labelled(g.image.info.Config.Labels, labels) || len(inUse[g.image.info.ID]) > 0 {
			continue
		}
		dangling := !slices.ContainsFunc(g.records, func(r images.Image) bool { return repository(r.Name) != "" })
		if all || dangling {
			removals = append(removals, removal{image: g.image, records: g.records})
		}
	}
	slices.SortFunc(removals, func(a, b removal) int { return strings.Compare(a.image.info.ID, b.image.info.ID) })
	return s.drop(ctx, removals)
}

func labelled(have, want map[string]string) bool {
	for k, v := range want {
		if h, ok := have[k]; !ok || v != "" && h != v {
			return false
		}
	}
	return true
}
