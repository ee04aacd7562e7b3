package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	contfs "github.com/containerd/continuity/fs"
	"github.com/opencontainers/go-digest"

	"github.com/dhow-project/dhow/runtime"
)

// Names in a container's folder. The folder appears by one rename, complete.
const (
	upperDir = "fs"
	workDir  = "work"
	pinLink  = "pin" // symbolic link whose text is IMAGE ID/CHAIN ID
)

// MountRootfs makes the container's writable layer over the image, when it has
// none yet, and mounts both at target, which it creates. It may be repeated:
// a mounted target is left alone, and after a reboot the old layer is mounted
// again. It touches no database once the image has been used before.
func (s *Store) MountRootfs(ctx context.Context, containerID, imageID, target string) error {
	if err := s.mountRootfs(s.context(ctx), containerID, imageID, target); err != nil {
		return fmt.Errorf("mount root file system of %s: %w", containerID, s.explainDisk(err))
	}
	return nil
}

func (s *Store) mountRootfs(ctx context.Context, containerID, imageID, target string) error {
	dir, err := s.layerDir(containerID)
	if err != nil {
		return err
	}
	key := "rootfs " + containerID
	if err := s.locks.Lock(ctx, key); err != nil {
		return err
	}
	defer s.locks.Unlock(key)
	if isMounted(target) {
		return nil
	}
	lowers, err := s.takeLayer(ctx, dir, digest.Digest(imageID))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: append([]string{
		"workdir=" + filepath.Join(dir, workDir),
		"upperdir=" + filepath.Join(dir, upperDir),
		"lowerdir=" + strings.Join(lowers, ":")}, s.options...)}
	if err := m.Mount(target); err != nil {
		return fmt.Errorf("overlay of %d layers at %s: %w", len(lowers), target, err)
	}
	return nil
}

// takeLayer returns the directories below the container's layer, which it
// makes when it is not there. The collector cannot come in between.
func (s *Store) takeLayer(ctx context.Context, dir string, imageID digest.Digest) ([]string, error) {
	s.gc.RLock()
	defer s.gc.RUnlock()
	image, chain, err := readPin(filepath.Join(dir, pinLink))
	if err == nil {
		return s.lowers(ctx, image, chain)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if chain, err = s.chainOf(ctx, imageID); err != nil {
		return nil, err
	}
	lowers, err := s.lowers(ctx, imageID, chain)
	if err != nil {
		return nil, err
	}
	return lowers, makeLayer(dir, lowers[0], imageID, chain)
}

// makeLayer makes the folder of a writable layer. Its root looks like the root
// of the topmost layer.
func makeLayer(dir, top string, imageID, chain digest.Digest) (err error) {
	tmp := filepath.Join(filepath.Dir(dir), ".new-"+filepath.Base(dir))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	st, err := os.Stat(top)
	if err != nil {
		return err
	}
	upper := filepath.Join(tmp, upperDir)
	for _, d := range []string{tmp, upper, filepath.Join(tmp, workDir)} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && (sys.Uid != 0 || sys.Gid != 0) {
		if err := os.Chown(upper, int(sys.Uid), int(sys.Gid)); err != nil {
			return err
		}
	}
	if err := os.Chmod(upper, st.Mode().Perm()|st.Mode()&(fs.ModeSticky|fs.ModeSetgid|fs.ModeSetuid)); err != nil {
		return err
	}
	if err := writePin(filepath.Join(tmp, pinLink), imageID, chain); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// UnmountRootfs unmounts target; the writable layer stays. It may be repeated.
func (s *Store) UnmountRootfs(_ context.Context, containerID, target string) error {
	if err := unmount(target); err != nil {
		return fmt.Errorf("unmount root file system of %s: %w", containerID, err)
	}
	return nil
}

// RemoveRootfs unmounts target and deletes the container's writable layer. It
// may be repeated; target may be "" when nothing can be mounted.
func (s *Store) RemoveRootfs(ctx context.Context, containerID, target string) error {
	if err := s.removeRootfs(ctx, containerID, target); err != nil {
		return fmt.Errorf("remove root file system of %s: %w", containerID, err)
	}
	return nil
}

func (s *Store) removeRootfs(ctx context.Context, containerID, target string) error {
	dir, err := s.layerDir(containerID)
	if err != nil {
		return err
	}
	key := "rootfs " + containerID
	if err := s.locks.Lock(ctx, key); err != nil {
		return err
	}
	defer s.locks.Unlock(key)
	if target != "" {
		if err := unmount(target); err != nil {
			return err
		}
	}
	dead := filepath.Join(s.rootfs, ".dead-"+containerID)
	if err := os.RemoveAll(dead); err != nil {
		return err
	}
	if err := os.Rename(dir, dead); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return os.RemoveAll(dead)
}

// SweepRootfs deletes the writable layers of containers that keep does not
// know. The engine calls it once, with all containers that it has.
func (s *Store) SweepRootfs(ctx context.Context, keep func(containerID string) bool) error {
	entries, err := os.ReadDir(s.rootfs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || keep(e.Name()) {
			continue
		}
		s.log.Info("remove writable layer without a container", "container", e.Name())
		err = errors.Join(err, s.RemoveRootfs(ctx, e.Name(), ""))
	}
	return err
}

// Usage is the size in bytes of what the container has written.
func (s *Store) Usage(ctx context.Context, containerID string) (int64, error) {
	dir, err := s.layerDir(containerID)
	if err != nil {
		return 0, err
	}
	u, err := contfs.DiskUsage(ctx, filepath.Join(dir, upperDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("writable layer of %s: %w", containerID, runtime.ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", containerID, err)
	}
	return u.Size, nil
}

// layerDir checks that the ID cannot lead elsewhere.
func (s *Store) layerDir(containerID string) (string, error) {
	if containerID == "" || strings.HasPrefix(containerID, ".") || strings.ContainsAny(containerID, "/:,\\\x00") {
		return "", fmt.Errorf("container ID %q: %w", containerID, runtime.ErrInvalid)
	}
	return filepath.Join(s.rootfs, containerID), nil
}

// sweepRootfs removes layers that were being made or removed.
func (s *Store) sweepRootfs() error {
	entries, err := os.ReadDir(s.rootfs)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") || strings.HasPrefix(e.Name(), ".dead-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.rootfs, e.Name())))
		}
	}
	return err
}
