package fsx

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory for reading, without following a final symlink.
func OpenDir(path string) (*os.File, error) {
	return open(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW})
}

// OpenIn opens rel below root as an O_PATH descriptor. Symbolic links are
// followed as if root were "/", so that nothing outside of it can be reached,
// also while the tree changes underneath.
func OpenIn(root *os.File, rel string) (*os.File, error) {
	return open(int(root.Fd()), rel, &unix.OpenHow{
		Flags:   unix.O_PATH,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// OpenChild opens the directory name in dir. It never follows a symlink and
// never enters another mount: that is EXDEV.
func OpenChild(dir *os.File, name string) (*os.File, error) {
	return open(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
}

// Reopen turns an O_PATH descriptor of a directory into a readable one.
func Reopen(f *os.File) (*os.File, error) {
	return open(int(f.Fd()), ".", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
}

func open(at int, path string, how *unix.OpenHow) (*os.File, error) {
	how.Flags |= unix.O_CLOEXEC
	for {
		fd, err := unix.Openat2(at, path, how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename raced with RESOLVE_IN_ROOT
			continue
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
}

// Names returns the names in dir, unsorted.
func Names(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, 0); err != nil {
		return nil, err
	}
	return dir.Readdirnames(-1)
}

// OpenWrite opens the existing regular file name in dir for writing, not
// following a symlink.
func OpenWrite(dir *os.File, name string) (*os.File, error) {
	return open(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
}
