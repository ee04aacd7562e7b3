package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// maxJSON bounds manifests and configs, which are read into memory.
const maxJSON = 16 << 20

// resolved is one platform's image below a target.
type resolved struct {
	manifest ocispec.Descriptor
	layers   []ocispec.Descriptor
	platform ocispec.Platform
	chain    digest.Digest // chain ID of the topmost layer; "" without layers
	chains   []digest.Digest
	unpacked bool
	offers   []string      // platforms of the target that led here, also those whose content is not here
	info     runtime.Image // without names
}

func (r *resolved) id() digest.Digest { return digest.Digest(r.info.ID) }

// configFile is an image config as Docker and OCI write it together.
type configFile struct {
	ocispec.Image
	Comment string       `json:"comment"`
	Config  configFields `json:"config"`
}

type configFields struct {
	ocispec.ImageConfig
	Healthcheck *runtime.ImageHealthcheck
	Shell       []string
	OnBuild     []string
}

// variants returns the platforms of target whose manifest and config are
// here, this machine's first. It wraps ErrNotFound when there is none.
func (s *Store) variants(ctx context.Context, target ocispec.Descriptor) ([]*resolved, error) {
	if vs := s.cache.variants(target.Digest); vs != nil {
		return vs, nil
	}
	manifests, err := s.manifests(ctx, target, 0)
	if err != nil {
		return nil, err
	}
	var vs []*resolved
	for _, m := range manifests {
		r, err := s.resolve(ctx, m)
		if errdefs.IsNotFound(err) {
			continue // of a platform that was not fetched
		}
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", m.Digest, err)
		}
		vs = append(vs, r)
	}
	if len(vs) == 0 {
		return nil, fmt.Errorf("no content of %s is here: %w", target.Digest, runtime.ErrNotFound)
	}
	offers := offered(manifests, vs)
	for _, v := range vs {
		v.offers = offers
	}
	host := platforms.Default()
	slices.SortStableFunc(vs, func(a, b *resolved) int {
		switch {
		case host.Less(a.platform, b.platform):
			return -1
		case host.Less(b.platform, a.platform):
			return 1
		}
		return 0
	})
	s.cache.setVariants(target.Digest, vs)
	return vs, nil
}

// offered lists the platforms of manifests as far as they are known, sorted.
func offered(manifests []ocispec.Descriptor, here []*resolved) []string {
	known := map[string]bool{}
	for _, m := range manifests {
		if m.Platform != nil {
			known[formatPlatform(platforms.Normalize(*m.Platform))] = true
		}
	}
	for _, v := range here {
		if v.manifest.Platform == nil {
			known[formatPlatform(v.platform)] = true
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// manifests lists the image manifests below target, itself included.
func (s *Store) manifests(ctx context.Context, target ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if images.IsManifestType(target.MediaType) {
		return []ocispec.Descriptor{target}, nil
	}
	if !images.IsIndexType(target.MediaType) || depth > 3 {
		return nil, fmt.Errorf("%s is not an image: %w", mediaType(target), runtime.ErrInvalid)
	}
	var index ocispec.Index
	if err := s.readJSON(ctx, target, &index); err != nil {
		if depth > 0 && errdefs.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, m := range index.Manifests {
		if isAttestation(m) || !images.IsManifestType(m.MediaType) && !images.IsIndexType(m.MediaType) {
			continue
		}
		below, err := s.manifests(ctx, m, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// isAttestation tells BuildKit's provenance manifests from images.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown"
}

func (s *Store) resolve(ctx context.Context, desc ocispec.Descriptor) (*resolved, error) {
	var m ocispec.Manifest
	if err := s.readJSON(ctx, desc, &m); err != nil {
		return nil, err
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return nil, fmt.Errorf("not a container image, its config is %s: %w", mediaType(m.Config), runtime.ErrInvalid)
	}
	var c configFile
	if err := s.readJSON(ctx, m.Config, &c); err != nil {
		return nil, err
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%d layers but %d diff IDs: %w", len(m.Layers), len(c.RootFS.DiffIDs), runtime.ErrInvalid)
	}
	r := &resolved{manifest: desc, layers: m.Layers, platform: platforms.Normalize(c.Platform), chains: chainIDs(c.RootFS.DiffIDs)}
	if c.OS == "" && desc.Platform != nil {
		r.platform = *desc.Platform
	}
	if n := len(r.chains); n > 0 {
		r.chain = r.chains[n-1]
	}
	r.info = imageInfo(c, m.Config.Digest, desc.Digest)
	return r, s.measure(ctx, r, c.History)
}

func chainIDs(diffIDs []digest.Digest) []digest.Digest {
	return identity.ChainIDs(slices.Clone(diffIDs))
}

// measure fills in sizes: of the unpacked layers, or of the blobs while they
// are not unpacked.
func (s *Store) measure(ctx context.Context, r *resolved, history []ocispec.History) error {
	sizes := make([]int64, len(r.layers))
	r.unpacked = true
	for i, l := range r.layers {
		sizes[i] = l.Size
		u, err := s.snaps.Usage(ctx, r.chains[i].String())
		switch {
		case err == nil:
			sizes[i] = u.Size
		case errdefs.IsNotFound(err):
			r.unpacked = false
		default:
			return err
		}
		r.info.Size += sizes[i]
	}
	for _, h := range history {
		step := runtime.ImageHistory{CreatedBy: h.CreatedBy, Comment: h.Comment, EmptyLayer: h.EmptyLayer}
		if h.Created != nil {
			step.Created = *h.Created
		}
		if !h.EmptyLayer && len(sizes) > 0 {
			step.Size, sizes = sizes[0], sizes[1:]
		}
		r.info.History = append(r.info.History, step)
	}
	return nil
}

func imageInfo(c configFile, id, manifest digest.Digest) runtime.Image {
	img := runtime.Image{
		ID: id.String(), Manifest: manifest.String(),
		Architecture: c.Architecture, Variant: c.Variant, OS: c.OS,
		Author: c.Author, Comment: c.Comment,
		Config: runtime.ImageConfig{
			Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Env: c.Config.Env,
			WorkingDir: c.Config.WorkingDir, User: c.Config.User, Labels: c.Config.Labels,
			ExposedPorts: sortedKeys(c.Config.ExposedPorts), Volumes: sortedKeys(c.Config.Volumes),
			StopSignal: c.Config.StopSignal, Healthcheck: c.Config.Healthcheck,
			Shell: c.Config.Shell, OnBuild: c.Config.OnBuild,
		},
	}
	if c.Created != nil {
		img.Created = *c.Created
	} else {
		img.Created = time.Unix(0, 0).UTC()
	}
	for _, d := range c.RootFS.DiffIDs {
		img.Layers = append(img.Layers, d.String())
	}
	return img
}

// readJSON reads a blob that is here. A missing one is errdefs.ErrNotFound.
func (s *Store) readJSON(ctx context.Context, d ocispec.Descriptor, v any) error {
	if d.Size > maxJSON {
		return fmt.Errorf("%s of %d bytes: larger than %d: %w", mediaType(d), d.Size, maxJSON, runtime.ErrInvalid)
	}
	data, err := content.ReadBlob(ctx, s.content, ocispec.Descriptor{Digest: d.Digest, Size: d.Size})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s %s: %w: %w", mediaType(d), d.Digest, err, runtime.ErrInvalid)
	}
	return nil
}

func mediaType(d ocispec.Descriptor) string {
	return cmp.Or(d.MediaType, "content without a media type")
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
