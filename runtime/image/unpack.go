package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/dhow-project/dhow/runtime"
)

// layersAtOnce of one image are fetched: enough to fill a line, too few for a
// registry to object to.
const layersAtOnce = 6

// unpacker makes an unpacker of layers that reports to p. Layers of one image
// are extracted one after the other: extracted at once, they could not see the
// owner and mode of directories that only a lower layer has. Each is synced
// to disk before the database says that it is there.
func (s *Store) unpacker(ctx context.Context, p *progress) (*unpack.Unpacker, error) {
	extracting := func(_ context.Context, d ocispec.Descriptor, c *diff.ApplyConfig) error {
		c.Progress = func(n int64) { p.extracting(d, n) }
		return nil
	}
	return unpack.NewUnpacker(ctx, s.content,
		unpack.WithUnpackPlatform(unpack.Platform{
			Platform:       platforms.All,
			SnapshotterKey: snapshotterName,
			Snapshotter:    watchedSnapshots{s.snaps, p},
			Applier:        s.applier,
			ApplyOpts:      []diff.ApplyOpt{diff.WithSyncFs(true), extracting},
		}),
		unpack.WithDuplicationSuppressor(s.locks),
		unpack.WithLimiter(semaphore.NewWeighted(layersAtOnce)),
		unpack.WithFetchAllContent())
}

// directApplier extracts the lowest layer straight into its directory, like
// the others. Left alone, containerd would bind-mount it somewhere below /tmp
// first, and a process that is killed meanwhile would leave that mount behind.
type directApplier struct{ diff.Applier }

func (a directApplier) Apply(ctx context.Context, d ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		mounts = []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"upperdir=" + mounts[0].Source}}}
	}
	return a.Applier.Apply(ctx, d, mounts, opts...)
}

// watchedSnapshots reports each layer that has been committed.
type watchedSnapshots struct {
	snapshots.Snapshotter
	progress *progress
}

func (w watchedSnapshots) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	err := w.Snapshotter.Commit(ctx, name, key, opts...)
	if err == nil || errdefs.IsAlreadyExists(err) {
		w.progress.unpacked(digest.Digest(name))
	}
	return err
}

func (w watchedSnapshots) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return w.Snapshotter.Prepare(ctx, key, parent, opts...)
}

// unpackManifest unpacks an image whose blobs are all here.
func (s *Store) unpackManifest(ctx context.Context, d ocispec.Descriptor, p *progress) error {
	u, err := s.unpacker(ctx, p)
	if err != nil {
		return err
	}
	here := images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if ok, err := content.Exists(ctx, s.content, d); err != nil {
			return nil, err
		} else if !ok {
			return nil, missingBlob(d)
		}
		return images.Children(ctx, s.content, d)
	})
	labelled := images.SetChildrenMappedLabels(s.content, here, images.ChildGCLabels)
	watched := p.announce(s, labelled, nil)
	dispatched := images.Dispatch(ctx, u.Unpack(watched), nil, d)
	_, unpacked := u.Wait()
	return firstCause(dispatched, unpacked)
}

func missingBlob(d ocispec.Descriptor) error {
	return fmt.Errorf("%s %s is missing or altered: %w", mediaType(d), d.Digest, runtime.ErrInvalid)
}

// firstCause prefers the error that is not a mere consequence of the other.
func firstCause(errs ...error) error {
	var canceled error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		canceled = errors.Join(canceled, err)
	}
	return canceled
}

// ensureUnpacked unpacks the image with this ID when its chain is not there.
func (s *Store) ensureUnpacked(ctx context.Context, imageID, chain digest.Digest) error {
	if chain == "" {
		return nil
	}
	key := "unpack " + chain.String()
	if err := s.locks.Lock(ctx, key); err != nil {
		return err
	}
	defer s.locks.Unlock(key)
	_, err := s.snaps.Stat(ctx, chain.String())
	if err == nil || !errdefs.IsNotFound(err) {
		return err
	}
	f, err := s.findID(ctx, imageID.String(), imageID.Encoded(), nil)
	if err != nil {
		return err
	}
	ctx, l, err := s.lease(ctx, "unpack", chain)
	if err != nil {
		return err
	}
	defer l.end(ctx)
	defer s.cache.forget()
	s.log.Info("unpack image", "image", imageID)
	if err := s.unpackManifest(ctx, f.image.manifest, newProgress(nil, "")); err != nil {
		return fmt.Errorf("unpack image %s: %w", short(imageID), s.explainDisk(err))
	}
	return nil
}
