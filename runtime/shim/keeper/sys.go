package keeper

import (
	"syscall"
	"unsafe"
)

// Constants that package syscall lacks.
const (
	prSetChildSubreaper = 36
	pAll                = 0
	wExited             = 0x4
	wNoWait             = 0x01000000
	fSetPipeSize        = 1031
	efdNonblock         = syscall.O_NONBLOCK
	sysCloseRange       = 436
)

func setSubreaper() error {
	_, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	return errnoErr(e)
}

// waitChild blocks until a child has ended and leaves it to be reaped.
func waitChild() error {
	var info [128]byte
	_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)), wExited|wNoWait, 0, 0)
	return errnoErr(e)
}

func eventfd() (int, error) {
	fd, _, e := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, efdNonblock|syscall.O_CLOEXEC, 0)
	return int(fd), errnoErr(e)
}

func setPipeSize(fd, size int) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), fSetPipeSize, uintptr(size))
}

func setWinsize(fd int, rows, cols uint64) error {
	ws := [4]uint16{uint16(rows), uint16(cols)}
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&ws)))
	return errnoErr(e)
}

// writev writes a and then b in one call.
func writev(fd int, a, b []byte) (int, error) {
	iov := [2]syscall.Iovec{}
	n := 0
	for _, p := range [2][]byte{a, b} {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			n++
		}
	}
	r, _, e := syscall.Syscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov)), uintptr(n))
	return int(r), errnoErr(e)
}

// dupCloexec duplicates fd.
func dupCloexec(fd int) (int, error) {
	r, _, e := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	return int(r), errnoErr(e)
}

// closeFrom closes every descriptor from fd on.
func closeFrom(fd int) {
	_, _, _ = syscall.RawSyscall(sysCloseRange, uintptr(fd), uintptr(^uint32(0)), 0)
}

func errnoErr(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// readFile reads at most limit bytes of a small file; nil when it cannot.
func readFile(path string, limit int) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var out []byte
	buf := make([]byte, 4096)
	for len(out) < limit {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			break
		}
		out = append(out, buf[:n]...)
	}
	return out
}

// writeFile writes a file as a whole: a temporary one takes the name at the end.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	fd, err := syscall.Open(tmp, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n, err := syscall.Write(fd, data)
		if err != nil && err != syscall.EINTR {
			syscall.Close(fd)
			syscall.Unlink(tmp)
			return err
		}
		data = data[max(n, 0):]
	}
	syscall.Close(fd)
	return syscall.Rename(tmp, path)
}
