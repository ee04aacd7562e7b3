package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

func journalOf(e *entry) string { return filepath.Join(e.dir, journalName) }

// inside says whether the content is a file system of its own, so that new
// content must be staged in it.
func (e *entry) inside(path string) bool {
	return len(e.v.Options) > 0 || path != e.v.Mountpoint
}

// copyUp fills an empty volume from the image's content at target, and gives
// it that directory's owner and mode. e.op is held. A copy that is cut short
// leaves the volume empty.
func copyUp(e *entry, path, rootfs, target string) error {
	src, err := openTarget(rootfs, target)
	if err != nil || src == nil {
		return err
	}
	defer src.Close()
	dst, err := fsx.OpenDir(path)
	if err != nil {
		return err
	}
	defer dst.Close()
	if empty, err := isEmpty(dst); !empty || err != nil {
		return err
	}
	names, err := fsx.Names(src)
	if err == nil && len(names) == 0 {
		err = fsx.CopyMeta(dst, "", src, "")
	} else if err == nil {
		err = copyStaged(e, path, src)
	}
	if err != nil {
		return fmt.Errorf("copy %s of the image: %w", target, err)
	}
	return nil
}

func copyStaged(e *entry, path string, src *os.File) error {
	s, err := swap.Begin(path, journalOf(e), e.inside(path), !e.v.Anonymous)
	if err != nil {
		return err
	}
	stage, err := fsx.OpenDir(s.Stage())
	if err != nil {
		return errors.Join(err, s.Abort())
	}
	err = fsx.CopyTree(stage, src)
	stage.Close()
	if err != nil {
		return errors.Join(err, s.Abort())
	}
	return s.Commit()
}

// openTarget opens the directory that target means inside of rootfs; nil when
// there is none.
func openTarget(rootfs, target string) (*os.File, error) {
	root, err := fsx.OpenDir(rootfs)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := fsx.OpenIn(root, target)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dir, err := fsx.Reopen(f)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return dir, err
}

func isEmpty(dir *os.File) (bool, error) {
	names, err := fsx.Names(dir)
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if !swap.Reserved(n) {
			return false, nil
		}
	}
	return true, nil
}
