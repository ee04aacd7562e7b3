package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

// Pull fetches an image from its registry, or a mirror, and unpacks it. What
// is here already is not fetched again; an interrupted pull goes on where it
// stopped. The error says what to do: it wraps ErrNotFound for an image or
// platform that does not exist, ErrForbidden for refused credentials.
func (s *Store) Pull(ctx context.Context, ref string, opt runtime.PullOptions) (*runtime.Image, error) {
	if id := idPattern.FindStringSubmatch(ref); id != nil && len(id[2]) == 64 {
		ref, opt.ImageID, opt.NoRegistry = "sha256:"+id[2], "sha256:"+id[2], true
	}
	name, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	img, err := s.pull(s.context(ctx), name, opt)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", reference.FamiliarString(name), err)
	}
	return img, nil
}

func (s *Store) pull(ctx context.Context, name reference.Named, opt runtime.PullOptions) (*runtime.Image, error) {
	match, err := parsePlatform(opt.Platform)
	if err != nil {
		return nil, err
	}
	key := "pull " + name.String()
	if err := s.locks.Lock(ctx, key); err != nil {
		return nil, err
	}
	defer s.locks.Unlock(key)

	reg := s.registry(name, opt.Auth)
	defer reg.close()
	p := newProgress(opt.Progress, "Pull complete")
	src := &source{name: name, opt: opt, registry: reg, peers: s.peerSource(name, p), progress: p}
	if opt.NoPeers {
		src.peers = nil
	}
	target, fetcher, err := src.resolve(ctx)
	if err != nil {
		return nil, err
	}
	record, err := s.recordFor(ctx, name, opt, target)
	if err != nil {
		return nil, err
	}
	before, _ := s.find(ctx, record, opt.Platform)
	f := &fetch{store: s, fetcher: fetcher, peers: src.peers, progress: p, match: match, platform: opt.Platform}
	if opt.Digest == "" {
		f.id = digest.Digest(opt.ImageID)
	}
	if err := f.run(ctx, named{record, target, opt.Digest != "" || opt.ImageID != ""}); err != nil {
		return nil, reg.explain(s.explainDisk(err))
	}
	if record == "" {
		record = target.Digest.String()
	}
	after, err := s.find(ctx, record, opt.Platform)
	if err != nil {
		return nil, err
	}
	src.report(before, after, target)
	s.log.Info("pulled image", "image", reference.FamiliarString(name), "digest", target.Digest, "from", src.from())
	s.publish("pull", reference.FamiliarString(name), reference.FamiliarName(name))
	return s.describe(ctx, after.image)
}

// recordFor is the name that an image gets. One that was pinned takes no name
// that a person gave to another image here.
func (s *Store) recordFor(ctx context.Context, name reference.Named, opt runtime.PullOptions, target ocispec.Descriptor) (string, error) {
	_, tagged := name.(reference.Tagged)
	switch {
	case idPattern.MatchString(reference.FamiliarString(name)):
		return "", nil
	case !tagged || opt.Digest == "" && opt.ImageID == "":
		return name.String(), nil
	}
	records, err := s.records(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range records {
		if r.Name == name.String() && r.Target.Digest != target.Digest && r.Labels[pinnedLabel] == "" {
			return name.Name() + "@" + target.Digest.String(), nil
		}
	}
	return name.String(), nil
}

func tagOf(name reference.Named) string {
	switch n := name.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return ""
}

// fetch is one transfer from a registry into the store.
type fetch struct {
	store    *Store
	fetcher  remotes.Fetcher
	peers    *peerSource // part of fetcher; nil: the registry only
	progress *progress
	match    platforms.MatchComparer // nil: this machine's
	platform string                  // as asked for; "" when not
	id       digest.Digest           // that the image has to have; "": any
}

// run fetches, unpacks and names the image, under a lease that outlives an
// interrupted pull for a while, but not one that can never succeed.
func (f *fetch) run(ctx context.Context, n named) error {
	s, target := f.store, n.target
	ctx, l, err := s.lease(ctx, "pull", target.Digest)
	if err != nil {
		return err
	}
	err = f.transfer(ctx, target)
	if err == nil {
		defer l.end(ctx)
		s.cache.forget()
		return s.setNames(ctx, []named{n})
	}
	if resumable(ctx, err) {
		l.keep()
		return err
	}
	if isDiskFull(err) {
		s.abort(context.WithoutCancel(ctx), "")
	}
	s.abandon(ctx, l)
	return err
}

func (f *fetch) transfer(ctx context.Context, target ocispec.Descriptor) error {
	s := f.store
	u, err := s.unpacker(ctx, f.progress)
	if err != nil {
		return err
	}
	children := images.SetChildrenMappedLabels(s.content, images.ChildrenHandler(s.content), images.ChildGCLabels)
	handler := images.Handlers(f.blobs(), f.choose(f.progress.announce(s, children, f.check)))
	dispatched := images.Dispatch(ctx, u.Unpack(handler), nil, target)
	_, unpacked := u.Wait()
	if err := firstCause(dispatched, unpacked); err != nil {
		return err
	}
	s.cache.forget()
	_, err = s.variants(ctx, target) // it must be an image
	return err
}

// blobs fetches one blob, unless it is here.
func (f *fetch) blobs() images.HandlerFunc {
	s := f.store
	watched := watchedFetcher{f.fetcher, f.progress}
	handle := remotes.FetchHandler(s.content, watched)
	return func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if !images.IsLayerType(d.MediaType) && d.Size > maxJSON {
			return nil, fmt.Errorf("%s of %d bytes: larger than %d: %w", mediaType(d), d.Size, maxJSON, runtime.ErrInvalid)
		}
		if images.IsConfigType(d.MediaType) && f.id != "" && d.Digest != f.id {
			return nil, fmt.Errorf("the registry has another image under this name now (%s) than the stack was deployed with (%s); run `dhow up` again to take it: %w", short(d.Digest), short(f.id), runtime.ErrNotFound)
		}
		err := f.verified(ctx, handle, d)
		if errdefs.IsFailedPrecondition(err) { // wrong digest or size: never to be resumed
			aborted := s.content.Abort(ctx, remotes.MakeRefKey(ctx, d))
			if errdefs.IsNotFound(aborted) {
				aborted = nil
			}
			return nil, errors.Join(fmt.Errorf("%s %s arrived damaged, its bytes do not match the digest; pull again, and suspect a proxy or the registry's disk: %w", mediaType(d), short(d.Digest), err), aborted)
		}
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", short(d.Digest), err)
		}
		if images.IsLayerType(d.MediaType) && !f.progress.wasHere(d.Digest) {
			f.progress.layer(d, "Download complete", 0)
		}
		return nil, nil
	}
}

// verified fetches one blob. What a node sent damaged comes again, from others.
func (f *fetch) verified(ctx context.Context, handle images.HandlerFunc, d ocispec.Descriptor) error {
	for {
		err := retry(ctx, func() error {
			_, err := handle(ctx, d)
			return err
		})
		if !errdefs.IsFailedPrecondition(err) || f.peers == nil || !f.peers.damaged(d.Digest) {
			return err
		}
		if aborted := f.store.content.Abort(ctx, remotes.MakeRefKey(ctx, d)); aborted != nil && !errdefs.IsNotFound(aborted) {
			return errors.Join(err, aborted)
		}
	}
}

// choose takes from an index the one manifest that fits best.
func (f *fetch) choose(h images.HandlerFunc) images.HandlerFunc {
	return func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h(ctx, d)
		if err != nil || !images.IsIndexType(d.MediaType) {
			return children, err
		}
		match := f.match
		if match == nil {
			match = platforms.Default()
		}
		var best *ocispec.Descriptor
		var offers []string
		for i, c := range children {
			if isAttestation(c) || !images.IsManifestType(c.MediaType) && !images.IsIndexType(c.MediaType) {
				continue
			}
			if c.Platform != nil {
				offers = append(offers, formatPlatform(*c.Platform))
				if !match.Match(*c.Platform) {
					continue
				}
			}
			if best == nil || c.Platform != nil && (best.Platform == nil || match.Less(*c.Platform, *best.Platform)) {
				best = &children[i]
			}
		}
		if best == nil {
			return nil, f.wrongPlatform(strings.Join(offers, ", "))
		}
		return []ocispec.Descriptor{*best}, nil
	}
}

// check refuses an image of another platform than was asked for by name. When
// nothing was asked for it is taken: it may run under emulation.
func (f *fetch) check(c configFile) error {
	if f.match == nil || f.match.Match(platforms.Normalize(c.Platform)) {
		return nil
	}
	return f.wrongPlatform(formatPlatform(c.Platform))
}

func (f *fetch) wrongPlatform(offers string) error {
	want := f.platform
	if want == "" {
		want = platforms.Format(platforms.DefaultSpec())
	}
	if offers == "" {
		offers = "nothing"
	}
	return fmt.Errorf("no image for %s, the registry has it for %s: %w", want, offers, runtime.ErrNotFound)
}

// retry repeats what fails for a passing reason; a blob goes on where it stopped.
func retry(ctx context.Context, f func() error) error {
	wait := 200 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt == 5 || !isPassing(ctx, err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait *= 2
	}
}

// abandon gives back what a pull that failed for good has fetched.
func (s *Store) abandon(ctx context.Context, l *lease) {
	l.end(ctx)
	if _, err := s.collect(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("collect after failure", "err", err)
	}
}

// abort drops partial blobs whose reference begins with prefix and that
// nobody is writing.
func (s *Store) abort(ctx context.Context, prefix string) {
	partial, err := s.content.ListStatuses(ctx)
	if err != nil {
		s.log.Warn("list partial downloads", "err", err)
	}
	for _, p := range partial {
		if !strings.HasPrefix(p.Ref, prefix) {
			continue
		}
		w, err := s.content.Writer(ctx, content.WithRef(p.Ref))
		if err != nil {
			continue // another transfer is at it
		}
		err = errors.Join(w.Close(), s.content.Abort(ctx, p.Ref))
		if err != nil {
			s.log.Warn("drop partial download", "ref", p.Ref, "err", err)
		}
	}
}
