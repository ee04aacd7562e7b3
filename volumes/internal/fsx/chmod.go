package fsx

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Chmod sets the mode of name in dir ("": of dir itself). A symbolic link that
// was put in its place meanwhile is not followed but an error: a container may
// write there while root works, and the link may lead anywhere on the host.
//
// The kernel's own fchmodat2 with this promise came in Linux 6.6 only.
func Chmod(dir *os.File, name string, mode uint32) error {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "chmod", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP // the kernel may set a link's own mode, which says nothing
	}
	if err == nil {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	}
	if err != nil {
		return &os.PathError{Op: "chmod", Path: name, Err: err}
	}
	return nil
}
