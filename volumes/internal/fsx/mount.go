package fsx

import (
	"errors"
	"io/fs"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mounted says whether path is a mount point; a missing path is not.
func Mounted(path string) (bool, error) {
	ok, err := mountinfo.Mounted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EIO) {
		return true, nil // a dead network mount is a mount
	}
	return ok, err
}

// BindFD mounts what f refers to at target, with everything mounted below it.
// No path is resolved again, so nobody can exchange it meanwhile.
func BindFD(f *os.File, target string) error {
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// Unmount unmounts path, all mounts of a stack on it; nothing mounted is no
// error. lazy detaches a busy mount, too.
func Unmount(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	for {
		switch err := unix.Unmount(path, flags); err {
		case nil, unix.EINTR:
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
}
