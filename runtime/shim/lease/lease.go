package lease

import (
	"syscall"
	"time"
	"unsafe"
)

const (
	// Never is the end of a lease that nobody can take over: a machine alone.
	Never = int64(1<<63 - 1)
	// Margin is how long before the end containers are killed: they have to be
	// gone when it comes.
	Margin = 500 * time.Millisecond
	// Ended is why such a container was killed or not started.
	Ended = "the node has lost its cluster: lease ended"
)

type errString string

func (e errString) Error() string { return string(e) }

// ErrInvalid: the file holds no lease of this boot.
const ErrInvalid = errString("no lease of this boot")

// clockBoottime is CLOCK_BOOTTIME, which package syscall lacks.
const clockBoottime = 7

// Now is the time of CLOCK_BOOTTIME in nanoseconds.
func Now() int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0) // since Linux 2.6.39
	return ts.Nano()
}

// Running says at the time now whether containers may run under a lease that ends at end.
func Running(end, now int64) bool { return end-int64(Margin) > now }

// Holds says whether a container may be started under the lease of the file.
func Holds(path string) bool {
	end, err := Read(path)
	return err == nil && Running(end, Now())
}

// The record: a name, the boot, the end, and a sum over all of it.
const (
	magic   = "dhowls1\n"
	bootLen = 36
	endAt   = len(magic) + bootLen
	sumAt   = endAt + 8
	size    = sumAt + 8
)

// Write says when the lease ends. The file is written in place, with one call:
// it needs no room that a full disk would not have.
func Write(path string, end int64) error {
	b, err := encode(end)
	if err != nil {
		return err
	}
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	n, err := syscall.Pwrite(fd, b[:], 0)
	if closeErr := syscall.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil && n != size {
		err = syscall.ENOSPC
	}
	return err
}

// readTries bounds how often a file is read that was being written.
const readTries = 3

// Read says when the lease ends. Anything but a whole record of this boot is ErrInvalid.
func Read(path string) (end int64, err error) {
	for range readTries {
		if end, err = readOnce(path); err != ErrInvalid {
			break
		}
	}
	return end, err
}

func readOnce(path string) (int64, error) {
	var b [size + 1]byte
	n, err := read(path, b[:])
	if err != nil {
		return 0, err
	}
	boot, err := boot()
	if err != nil {
		return 0, err
	}
	if n != size || string(b[:len(magic)]) != magic || string(b[len(magic):endAt]) != string(boot[:]) || uint64At(b[sumAt:]) != sum(b[:sumAt]) {
		return 0, ErrInvalid
	}
	return int64(uint64At(b[endAt:])), nil
}

func encode(end int64) (b [size]byte, err error) {
	boot, err := boot()
	if err != nil {
		return b, err
	}
	copy(b[:], magic)
	copy(b[len(magic):], boot[:])
	putUint64(b[endAt:], uint64(end))
	putUint64(b[sumAt:], sum(b[:sumAt]))
	return b, nil
}

// boot is the kernel's name of this boot.
func boot() (id [bootLen]byte, err error) {
	n, err := read("/proc/sys/kernel/random/boot_id", id[:])
	if err == nil && n != bootLen {
		err = ErrInvalid
	}
	return id, err
}

// read fills b from the beginning of a file.
func read(path string, b []byte) (int, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	return syscall.Read(fd, b)
}

// sum is FNV-1a, 64 bits: it tells a torn or foreign record, not a forged one.
func sum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

func uint64At(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}
