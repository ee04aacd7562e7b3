package fsx

import (
	"os"

	"golang.org/x/sys/unix"
)

// Range is a part of a file, in bytes.
type Range struct{ Off, Len int64 }

// DataRanges returns the parts of the first size bytes of f that are not
// holes. A file system that cannot tell has one range. An empty result means
// that the file is one hole (or empty).
func DataRanges(f *os.File, size int64) ([]Range, error) {
	var rs []Range
	fd := int(f.Fd())
	for at := int64(0); at < size; {
		start, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err == unix.EINVAL || err == unix.ENOTSUP {
			return []Range{{0, size}}, nil
		}
		if err != nil {
			return nil, &os.PathError{Op: "seek data", Path: f.Name(), Err: err}
		}
		if start >= size {
			break
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil || end > size {
			end = size
		}
		rs = append(rs, Range{start, end - start})
		at = end
	}
	return rs, nil
}
