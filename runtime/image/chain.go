package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// viewPrefix names the read-only snapshots by which containers hold on to the
// layers of an image. They are roots of the collector, one per chain in use.
const viewPrefix = "view "

// chainOf returns the chain ID of an image; "" when it has no layers.
func (s *Store) chainOf(ctx context.Context, imageID digest.Digest) (digest.Digest, error) {
	if chain, ok := s.cache.chain(imageID); ok {
		return chain, nil
	}
	if err := imageID.Validate(); err != nil {
		return "", fmt.Errorf("image ID %q: %w: %w", imageID, err, runtime.ErrInvalid)
	}
	var c configFile
	err := s.readJSON(ctx, ocispec.Descriptor{Digest: imageID, MediaType: "image config"}, &c)
	if errdefs.IsNotFound(err) {
		return "", noSuchImage(imageID.String())
	}
	if err != nil {
		return "", err
	}
	var chain digest.Digest
	if ids := chainIDs(c.RootFS.DiffIDs); len(ids) > 0 {
		chain = ids[len(ids)-1]
	}
	s.cache.setChain(imageID, chain)
	return chain, nil
}

// lowers returns the directories of a chain's layers, topmost first, and sees
// to it that they are unpacked and stay. The caller holds gc for reading and
// leaves a pin before it lets go.
func (s *Store) lowers(ctx context.Context, imageID, chain digest.Digest) ([]string, error) {
	if dirs, ok := s.cache.lower(chain); ok {
		return dirs, nil
	}
	if chain == "" {
		empty := filepath.Join(s.rootfs, ".empty")
		if err := os.Mkdir(empty, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return []string{empty}, nil
	}
	if err := s.ensureUnpacked(ctx, imageID, chain); err != nil {
		return nil, err
	}
	dirs, err := s.view(ctx, chain)
	if err == nil {
		s.cache.setLower(chain, dirs)
	}
	return dirs, err
}

// view makes or finds the view of a chain.
func (s *Store) view(ctx context.Context, chain digest.Digest) ([]string, error) {
	key := viewPrefix + chain.String()
	mounts, err := s.snaps.Mounts(ctx, key)
	if errdefs.IsNotFound(err) {
		root := map[string]string{"containerd.io/gc.root": "used by containers"}
		mounts, err = s.snaps.View(ctx, key, chain.String(), snapshots.WithLabels(root))
	}
	if errdefs.IsAlreadyExists(err) { // another container was faster
		mounts, err = s.snaps.Mounts(ctx, key)
	}
	if err != nil {
		return nil, fmt.Errorf("layers of %s: %w", short(chain), err)
	}
	return lowerDirs(mounts)
}

// lowerDirs reads the layers' directories out of the mount of a view: a bind
// mount for one layer, else an overlay.
func lowerDirs(mounts []mount.Mount) ([]string, error) {
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		return []string{mounts[0].Source}, nil
	}
	if len(mounts) == 1 {
		for _, o := range mounts[0].Options {
			if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
				return strings.Split(dirs, ":"), nil
			}
		}
	}
	return nil, fmt.Errorf("unexpected mounts of a snapshot: %v", mounts)
}

// writePin and readPin keep what a layer hangs on in the text of a symbolic
// link: it appears whole or not at all.
func writePin(path string, imageID, chain digest.Digest) error {
	err := os.Symlink(imageID.String()+"/"+chain.String(), path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func readPin(path string) (imageID, chain digest.Digest, err error) {
	text, err := os.Readlink(path)
	if err != nil {
		return "", "", err
	}
	id, c, ok := strings.Cut(text, "/")
	if !ok {
		return "", "", fmt.Errorf("%s: not a pin: %q", path, text)
	}
	return digest.Digest(id), digest.Digest(c), nil
}

// pinned lists the chains that containers and image mounts hang on.
func (s *Store) pinned() (map[digest.Digest]bool, error) {
	chains := map[digest.Digest]bool{}
	links, err := filepath.Glob(filepath.Join(globEscape(s.rootfs), "*", pinLink))
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadDir(s.pins)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		links = append(links, filepath.Join(s.pins, m.Name()))
	}
	for _, l := range links {
		_, chain, err := readPin(l)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return nil, err
		}
		chains[chain] = true
	}
	return chains, nil
}

func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
