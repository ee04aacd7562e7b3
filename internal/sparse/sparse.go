package sparse

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// block is the unit of holes: what common file systems allocate at once.
const block = 4096

var zeros [block]byte

// Copy writes all of r to f, an empty file, and leaves a hole for each block of
// zeros. What is not a regular file, such as a device or a pipe, gets every byte.
func Copy(f *os.File, r io.Reader) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		_, err := io.Copy(f, r)
		return err
	}
	buf := make([]byte, 64*block)
	var size int64
	for {
		n, err := fill(r, buf)
		if werr := write(f, buf[:n], size); werr != nil {
			return werr
		}
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return f.Truncate(size) // the end may be a hole
		case err != nil:
			return err
		}
	}
}

// fill reads until buf is full or r ends. Unlike io.ReadFull it keeps io.EOF
// apart from the io.ErrUnexpectedEOF of an archive that was cut off.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// write puts the runs of blocks that are not zero at their places; p belongs at the offset at.
func write(f *os.File, p []byte, at int64) error {
	begin := 0 // of the run
	flush := func(end int) error {
		if end == begin {
			return nil
		}
		_, err := f.WriteAt(p[begin:end], at+int64(begin))
		return err
	}
	for i := 0; i < len(p); i += block {
		end := min(i+block, len(p))
		if !bytes.Equal(p[i:end], zeros[:end-i]) {
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		begin = end
	}
	return flush(len(p))
}
