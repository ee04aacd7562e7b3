package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sys/unix"
)

// secretMounts writes secrets and configs to a tmpfs of the bundle, each with
// its owner and mode, and mounts them one by one, read-only.
func (b *bundle) secretMounts() ([]oci.Mount, error) {
	files := append(append([]stack.FileRef(nil), b.rec.Spec.Secrets...), b.rec.Spec.Configs...)
	if len(files) == 0 {
		return nil, nil
	}
	dir := filepath.Join(b.dir, "files")
	if err := mountTmpfs(dir, 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	out := make([]oci.Mount, 0, len(files))
	for i, f := range files {
		if f.Data == nil && b.rec.locked != nil {
			return nil, fmt.Errorf("secret or config %s: %w", f.Source, b.rec.locked)
		}
		if f.Data == nil {
			return nil, fmt.Errorf("secret or config %s has no content: %w", f.Source, runtime.ErrInvalid)
		}
		host := filepath.Join(dir, strconv.Itoa(i))
		if err := writeOwned(host, f); err != nil {
			return nil, fmt.Errorf("secret or config %s: %w", f.Source, err)
		}
		options := []string{"bind", "ro", "nosuid", "nodev", "rprivate"}
		if f.Mode == nil || *f.Mode&0o111 == 0 {
			options = append(options, "noexec") // only what is asked to be a program is one
		}
		out = append(out, oci.Mount{Type: "bind", Source: host, Target: f.Target, Options: options})
	}
	return out, nil
}

func writeOwned(path string, f stack.FileRef) error {
	mode := uint32(0o444)
	if f.Mode != nil {
		mode = *f.Mode
	}
	if err := os.WriteFile(path, f.Data, 0o600); err != nil {
		return err
	}
	if err := os.Chown(path, f.UID, f.GID); err != nil {
		return err
	}
	return unix.Chmod(path, mode&0o7777)
}

// makeShm mounts the /dev/shm that others may share.
func (b *bundle) makeShm() error {
	if b.rec.Spec.IPCMode != "shareable" {
		return nil
	}
	size := b.rec.Spec.ShmSize
	if size <= 0 {
		size = oci.DefaultShmSize
	}
	return mountTmpfs(filepath.Join(b.dir, "shm"), unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size))
}

// mountTmpfs mounts a fresh tmpfs at dir, over what an attempt before left.
func mountTmpfs(dir string, flags uintptr, options string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	unmount(dir)
	return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|flags, options)
}

// unmount takes down every mount at path; not being mounted is fine.
func unmount(path string) {
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
}
