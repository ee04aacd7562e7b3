package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// leaseTime is how long an interrupted pull keeps what it has fetched.
const leaseTime = 24 * time.Hour

// lease protects what is made with its context from the collector.
type lease struct {
	store *Store
	id    string
	once  sync.Once // guards the first end or keep; later ones do nothing
}

// lease returns a context that protects everything made with it until the
// lease ends. The same kind and subject take up the lease that an interrupted
// process left; at one time one holds it.
func (s *Store) lease(ctx context.Context, kind string, subject digest.Digest) (context.Context, *lease, error) {
	l := &lease{store: s, id: kind + "/" + subject.String()}
	if err := s.locks.Lock(ctx, "lease "+l.id); err != nil {
		return nil, nil, err
	}
	_, err := s.leases.Create(ctx, leases.WithID(l.id), leases.WithExpiration(leaseTime))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		l.keep()
		return nil, nil, fmt.Errorf("lease: %w", err)
	}
	return leases.WithLease(ctx, l.id), l, nil
}

// end gives up the protection; ctx may have ended.
func (l *lease) end(ctx context.Context) {
	l.once.Do(func() {
		err := l.store.leases.Delete(context.WithoutCancel(ctx), leases.Lease{ID: l.id})
		if err != nil && !errdefs.IsNotFound(err) {
			l.store.log.Warn("end lease", "lease", l.id, "err", err)
		}
		l.store.locks.Unlock("lease " + l.id)
	})
}

// keep leaves the protection to the next attempt, or until leaseTime is over.
func (l *lease) keep() {
	l.once.Do(func() { l.store.locks.Unlock("lease " + l.id) })
}

// sweep removes what a process that died left half-done, except what
// interrupted pulls have fetched: the next pull goes on from there.
func (s *Store) sweep() error {
	ctx := s.context(context.Background())
	if err := errors.Join(s.sweepRootfs(), s.sweepIngests(), s.sweepSnapshots(ctx)); err != nil {
		return err
	}
	old, err := s.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	dirty := false
	for _, l := range old {
		if strings.HasPrefix(l.ID, "pull/") {
			continue
		}
		dirty = true
		if err := s.leases.Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("end lease %s: %w", l.ID, err)
		}
	}
	var halves []string // no layer is being extracted yet, so these never will be
	err = s.snaps.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind == snapshots.KindActive {
			halves = append(halves, i.Name)
		}
		return nil
	})
	for _, key := range halves {
		dirty = true
		err = errors.Join(err, s.snaps.Remove(ctx, key))
	}
	if dirty {
		s.work.Go(func() {
			if _, err := s.collect(ctx); err != nil {
				s.log.Warn("collect after restart", "err", err)
			}
		})
	}
	return err
}

// sweepIngests removes partial blobs that were not even begun properly: the
// content store cannot read them, and so never removes them.
func (s *Store) sweepIngests() error {
	dir := filepath.Join(s.cfg.DataDir, "content", "ingest")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		for _, name := range []string{"ref", "startedat", "updatedat", "data"} {
			st, serr := os.Stat(filepath.Join(dir, e.Name(), name))
			if serr != nil || st.Size() == 0 && name != "data" {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
				break
			}
		}
	}
	return err
}

// sweepSnapshots removes the directories of snapshots that were never
// recorded. It must come before the first snapshot is made: the next one gets
// the number of the one that was lost, and would find its directory taken.
func (s *Store) sweepSnapshots(ctx context.Context) error {
	c, ok := s.backend.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err := c.Cleanup(ctx)
	if errdefs.IsNotFound(err) { // nothing was ever recorded
		err = removeChildren(filepath.Join(s.cfg.DataDir, "snapshots", "snapshots"))
	}
	if err != nil {
		return fmt.Errorf("clean up snapshots: %w", err)
	}
	return nil
}

func removeChildren(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}
