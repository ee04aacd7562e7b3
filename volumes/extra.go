package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// Mounts below RunDir/volumes/USER: "N" is the subpath of mount N, "N.image"
// the image of mount N. They need no record: their names say whose they are.

const imageSuffix = ".image"

func (m *Manager) extraPath(user string, i int) string {
	return filepath.Join(m.run, user, strconv.Itoa(i))
}

// bindSubpath mounts sub, as seen from inside of base, below RunDir. Symbolic
// links cannot lead out of base, and what was checked is what is mounted: the
// bind is made from the open file, not from a path.
func (m *Manager) bindSubpath(user string, i int, base, sub string) (string, error) {
	root, err := fsx.OpenDir(base)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := fsx.OpenIn(root, sub)
	if err != nil {
		return "", fmt.Errorf("subpath %q: %w", sub, errors.Unwrap(err))
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	target := m.extraPath(user, i)
	if err := makeTarget(target, fi.IsDir()); err != nil {
		return "", err
	}
	if err := fsx.BindFD(f, target); err != nil {
		return "", fmt.Errorf("subpath %q: %w", sub, err)
	}
	return target, nil
}

func makeTarget(path string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if dir {
		return os.Mkdir(path, 0o700)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// image mounts an image read-only.
func (p *preparation) image(ctx context.Context, i int, mt stack.Mount) (Prepared, error) {
	images := p.m.cfg.Images
	if images == nil {
		return Prepared{}, fmt.Errorf("no image mounts on this node: %w", runtime.ErrInvalid)
	}
	img, err := images.Image(ctx, mt.Source, "")
	if err != nil {
		return Prepared{}, err
	}
	target := p.m.extraPath(p.user, i) + imageSuffix
	if err := makeTarget(target, true); err != nil {
		return Prepared{}, err
	}
	if err := images.MountImage(ctx, imageKey(target), img.ID, target); err != nil {
		return Prepared{}, fmt.Errorf("image %s: %w", mt.Source, err)
	}
	path := target
	if mt.Subpath != "" {
		if path, err = p.m.bindSubpath(p.user, i, target, mt.Subpath); err != nil {
			return Prepared{}, fmt.Errorf("image %s: %w", mt.Source, err)
		}
	}
	mt.ReadOnly = true
	return prepared(mt, path, runtime.MountPoint{Name: mt.Source}), nil
}

// imageKey names an image mount in the image store: "USER-N".
func imageKey(target string) string {
	n := filepath.Base(target)
	return filepath.Base(filepath.Dir(target)) + "-" + n[:len(n)-len(imageSuffix)]
}

// unmountExtra takes down everything below RunDir/volumes/USER.
func (m *Manager) unmountExtra(ctx context.Context, user string) error {
	dir := filepath.Join(m.run, user)
	entries, err := os.ReadDir(dir) // sorted: "N" before "N.image"
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if filepath.Ext(path) == imageSuffix && m.cfg.Images != nil {
			if err := m.cfg.Images.UnmountImage(ctx, imageKey(path), path); err != nil {
				return err
			}
		}
		if err := fsx.Unmount(path, true); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return os.Remove(dir)
}

// sweepExtra takes down the mounts of containers without a record.
func (m *Manager) sweepExtra(ctx context.Context) error {
	entries, err := os.ReadDir(m.run)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if m.record(e.Name()) == nil {
			errs = append(errs, m.unmountExtra(ctx, e.Name()))
		}
	}
	return errors.Join(errs...)
}
