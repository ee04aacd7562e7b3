package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// MountImage mounts the image's files read-only at target, which it creates.
// key names the user; the image's layers stay until UnmountImage with the same
// key. It may be repeated.
func (s *Store) MountImage(ctx context.Context, key, imageID, target string) error {
	if err := s.mountImage(s.context(ctx), key, digest.Digest(imageID), target); err != nil {
		return fmt.Errorf("mount image %s: %w", imageID, s.explainDisk(err))
	}
	return nil
}

func (s *Store) mountImage(ctx context.Context, key string, imageID digest.Digest, target string) error {
	if err := s.locks.Lock(ctx, "mount "+key); err != nil {
		return err
	}
	defer s.locks.Unlock("mount " + key)
	if isMounted(target) {
		return nil
	}
	lowers, err := s.takeImage(ctx, key, imageID)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	m := mount.Mount{Type: "bind", Source: lowers[0], Options: []string{"rbind", "ro"}}
	if len(lowers) > 1 {
		m = mount.Mount{Type: "overlay", Source: "overlay", Options: append([]string{"ro", "lowerdir=" + strings.Join(lowers, ":")}, s.options...)}
	}
	return m.Mount(target)
}

func (s *Store) takeImage(ctx context.Context, key string, imageID digest.Digest) ([]string, error) {
	s.gc.RLock()
	defer s.gc.RUnlock()
	pin := s.pinPath(key)
	image, chain, err := readPin(pin)
	if err == nil && image == imageID {
		return s.lowers(ctx, imageID, chain)
	}
	if err == nil { // another image under the same key: its mount is gone
		if err := os.Remove(pin); err != nil {
			return nil, err
		}
	}
	if chain, err = s.chainOf(ctx, imageID); err != nil {
		return nil, err
	}
	lowers, err := s.lowers(ctx, imageID, chain)
	if err != nil {
		return nil, err
	}
	return lowers, writePin(pin, imageID, chain)
}

// UnmountImage ends a MountImage. It may be repeated.
func (s *Store) UnmountImage(_ context.Context, key, target string) error {
	if err := unmount(target); err != nil {
		return fmt.Errorf("unmount image at %s: %w", target, err)
	}
	if err := os.Remove(s.pinPath(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) pinPath(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(s.pins, hex.EncodeToString(sum[:]))
}

func isMounted(target string) bool {
	mounted, err := mountinfo.Mounted(target)
	return err == nil && mounted
}

// unmount takes every mount off target. One that is busy is detached: it goes
// when its last user does.
func unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // not a mount point (any longer)
		case errors.Is(err, unix.EINTR), err == nil:
		default:
			return err
		}
	}
}

// overlayOptions are what every overlay mount gets: index=off, because a layer
// below may be shared with the unpacker; userxattr inside a user namespace.
func overlayOptions(dir string) []string {
	var options []string
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		options = append(options, "index=off")
	}
	if need, err := overlayutils.NeedsUserXAttr(dir); err == nil && need {
		options = append(options, "userxattr")
	}
	return options
}
