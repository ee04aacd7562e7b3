package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// found is the answer to a reference.
type found struct {
	record images.Image // that leads to the image
	byName bool         // asked for by a name rather than an ID
	image  *resolved
}

// Image describes the image that ref names: a tag, a digest, an ID or the
// beginning of one. platform ("linux/arm64") selects among the platforms that
// are here; "" takes this machine's, or else any. It wraps ErrNotFound.
func (s *Store) Image(ctx context.Context, ref, platform string) (*runtime.Image, error) {
	ctx = s.context(ctx)
	f, err := s.find(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	img, err := s.describe(ctx, f.image)
	if err == nil {
		img.Target, img.Platforms = f.record.Target.Digest.String(), slices.Clone(f.image.offers)
	}
	return img, err
}

// List returns every image once, the newest first.
func (s *Store) List(ctx context.Context) ([]runtime.Image, error) {
	ctx = s.context(ctx)
	groups, err := s.groups(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]runtime.Image, 0, len(groups))
	for _, g := range groups {
		list = append(list, g.describe())
	}
	slices.SortFunc(list, func(a, b runtime.Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// group is an image with all records that lead to it.
type group struct {
	image   *resolved
	records []images.Image
}

// groups lists the images as users see them, in no order.
func (s *Store) groups(ctx context.Context) (map[digest.Digest]*group, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[digest.Digest]*group{}
	for _, r := range records {
		vs, err := s.variants(ctx, r.Target)
		if err != nil {
			s.log.Warn("image is incomplete", "image", familiar(r.Name), "err", err)
			continue
		}
		g := groups[vs[0].id()]
		if g == nil {
			g = &group{image: vs[0]}
			groups[vs[0].id()] = g
		}
		g.records = append(g.records, r)
	}
	return groups, nil
}

func (g *group) describe() runtime.Image {
	img := g.image.info
	for _, r := range g.records {
		addNames(&img, r)
	}
	finishNames(&img)
	return img
}

// describe adds to an image the names of all records that lead to it.
func (s *Store) describe(ctx context.Context, r *resolved) (*runtime.Image, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	img := r.info
	for _, rec := range records {
		if vs, err := s.variants(ctx, rec.Target); err == nil && has(vs, r.id()) {
			addNames(&img, rec)
		}
	}
	finishNames(&img)
	return &img, nil
}

func addNames(img *runtime.Image, r images.Image) {
	repo := repository(r.Name)
	if repo == "" {
		return
	}
	if !isDigestName(r.Name) {
		img.Tags = append(img.Tags, familiar(r.Name))
	}
	img.Digests = append(img.Digests, familiar(repo+"@"+r.Target.Digest.String()))
	if r.UpdatedAt.After(img.LastTagged) {
		img.LastTagged = r.UpdatedAt
	}
}

func finishNames(img *runtime.Image) {
	slices.Sort(img.Tags)
	slices.Sort(img.Digests)
	img.Digests = slices.Compact(img.Digests)
}

func has(vs []*resolved, id digest.Digest) bool {
	return slices.ContainsFunc(vs, func(r *resolved) bool { return r.id() == id })
}

// find answers a reference in Docker's order: full ID, name, short ID.
func (s *Store) find(ctx context.Context, ref, platform string) (*found, error) {
	match, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	id := idPattern.FindStringSubmatch(ref)
	if id != nil && len(id[2]) == 64 {
		return s.findID(ctx, ref, id[2], match)
	}
	f, err := s.findName(ctx, ref, platform, match)
	if err != nil || f != nil {
		return f, err
	}
	if id != nil {
		return s.findID(ctx, ref, id[2], match)
	}
	return nil, noSuchImage(ref)
}

func noSuchImage(ref string) error {
	return fmt.Errorf("no such image: %s: %w", ref, runtime.ErrNotFound)
}

// findName returns nil without an error when nothing has that name.
func (s *Store) findName(ctx context.Context, ref, platform string, match platforms.Matcher) (*found, error) {
	name, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(records, func(r images.Image) bool { return r.Name == name.String() })
	if i < 0 {
		if d, ok := name.(reference.Digested); ok {
			return s.findDigest(ctx, name.Name(), d.Digest(), match)
		}
		return nil, nil
	}
	record := records[i]
	vs, err := s.variants(ctx, record.Target)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	for _, v := range vs {
		if match == nil || match.Match(v.platform) {
			return &found{record: record, byName: true, image: v}, nil
		}
	}
	return nil, fmt.Errorf("image %s is here for %s, not for %s: %w", ref, platformList(vs), platform, runtime.ErrNotFound)
}

// findDigest finds repo@digest by the digest of the index, of a platform's
// manifest, or of the config.
func (s *Store) findDigest(ctx context.Context, repo string, d digest.Digest, match platforms.Matcher) (*found, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if repository(r.Name) != repo {
			continue
		}
		vs, err := s.variants(ctx, r.Target)
		if err != nil {
			continue
		}
		for _, v := range vs {
			if r.Target.Digest == d && (match == nil || match.Match(v.platform)) || v.manifest.Digest == d || v.id() == d {
				return &found{record: r, byName: true, image: v}, nil
			}
		}
	}
	return nil, nil
}

// findID finds the one image whose ID, or whose target's digest, begins with
// hex. Of a target with several platforms it takes one that matches.
func (s *Store) findID(ctx context.Context, ref, hex string, match platforms.Matcher) (*found, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	var f *found
	for _, r := range records {
		vs, err := s.variants(ctx, r.Target)
		if err != nil {
			continue
		}
		for _, v := range vs {
			byTarget := strings.HasPrefix(r.Target.Digest.Encoded(), hex) && (match == nil || match.Match(v.platform))
			if !strings.HasPrefix(v.id().Encoded(), hex) && !byTarget && v.manifest.Digest.Encoded() != hex {
				continue
			}
			if f != nil && f.image.id() != v.id() && strings.HasPrefix(v.id().Encoded(), hex) {
				return nil, fmt.Errorf("image ID %s is ambiguous: %s and %s begin with it: %w", ref, short(f.image.id()), short(v.id()), runtime.ErrInvalid)
			}
			if f == nil {
				f = &found{record: r, image: v}
			}
		}
	}
	if f == nil {
		return nil, noSuchImage(ref)
	}
	return f, nil
}

// parsePlatform returns nil for "".
func parsePlatform(platform string) (platforms.MatchComparer, error) {
	if platform == "" {
		return nil, nil
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w: %w", platform, err, runtime.ErrInvalid)
	}
	return platforms.Only(p), nil
}

func platformList(vs []*resolved) string {
	var names []string
	for _, v := range vs {
		names = append(names, formatPlatform(v.platform))
	}
	return strings.Join(names, ", ")
}

func formatPlatform(p ocispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return "an unnamed platform"
	}
	return platforms.Format(p)
}

// short is Docker's short form of a digest.
func short(d digest.Digest) string {
	if hex := d.Encoded(); len(hex) > 12 {
		return hex[:12]
	}
	return d.Encoded()
}
