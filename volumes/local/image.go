package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	rt "github.com/dhow-project/dhow/runtime"
)

// makeImage makes a sparse file with a file system of the given size in bytes.
func makeImage(ctx context.Context, path, fstype string, size int64) error {
	mkfs, err := maker(fstype)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	args := []string{"-q", path}
	if strings.HasPrefix(fstype, "ext") {
		args = []string{"-q", "-F", "-m", "0", path}
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, mkfs, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make image: mkfs.%s: %w: %s", fstype, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// maker is the program that makes a file system.
func maker(fstype string) (string, error) {
	mkfs, err := exec.LookPath("mkfs." + fstype)
	if err != nil {
		return "", fmt.Errorf("a volume with a size limit needs mkfs.%s (package e2fsprogs, xfsprogs or btrfs-progs): %w", fstype, errors.Join(err, rt.ErrInvalid))
	}
	return mkfs, nil
}

// mountLoop mounts a file through a loop device. The device goes by itself
// with the last mount of it.
func mountLoop(file, target string, o *options) error {
	loop, err := attach(file, o.Flags&unix.MS_RDONLY != 0)
	if err != nil {
		return fmt.Errorf("loop device for %s: %w", file, err)
	}
	// While it is open, autoclear cannot take it away before the mount.
	defer loop.Close()
	if err := call(loop.Name(), target, o.Type, o.Flags, o.Data); err != nil {
		return err
	}
	if o.Size > 0 {
		// Programs take a directory with lost+found for one that is in use. fsck makes it again.
		os.Remove(target + "/lost+found")
	}
	return nil
}

// attach returns an open loop device of file. A device that already carries
// the file is shared: two devices on one file would corrupt it.
func attach(file string, readOnly bool) (*os.File, error) {
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	back, err := os.OpenFile(file, mode, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	if loop := attached(back); loop != nil {
		return loop, nil
	}
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for range 64 { // others ask for free devices, too
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		loop, err := configure(fmt.Sprintf("/dev/loop%d", n), back, file, readOnly)
		if !errors.Is(err, unix.EBUSY) {
			return loop, err
		}
	}
	return nil, unix.EBUSY
}

func configure(dev string, back *os.File, file string, readOnly bool) (*os.File, error) {
	loop, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	cfg := unix.LoopConfig{Fd: uint32(back.Fd())}
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if readOnly {
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], file)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, loop.Fd(), unix.LOOP_CONFIGURE, uintptr(unsafe.Pointer(&cfg)))
	runtime.KeepAlive(back)
	if errno != 0 {
		loop.Close()
		return nil, errno
	}
	return loop, nil
}

// attached returns the loop device that carries the open file, if any.
func attached(back *os.File) *os.File {
	var want unix.Stat_t
	if unix.Fstat(int(back.Fd()), &want) != nil {
		return nil
	}
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "loop") {
			continue
		}
		if _, err := os.Stat("/sys/block/" + e.Name() + "/loop"); err != nil {
			continue // free
		}
		loop, err := os.OpenFile("/dev/"+e.Name(), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		info, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
		if err == nil && info.Device == want.Dev && info.Inode == want.Ino {
			return loop
		}
		loop.Close()
	}
	return nil
}
