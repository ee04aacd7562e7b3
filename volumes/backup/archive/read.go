package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// ErrCorrupt is wrapped by every complaint about an archive's bytes.
var ErrCorrupt = errors.New("archive is corrupt")

// maxPax bounds the extended header of one entry: a name, a target, and some
// attributes of at most 64 KiB each.
const maxPax = 8 << 20

// maxParts bounds the hole map of one file.
const maxParts = 1 << 22

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrCorrupt)
}

// reader reads the tar stream that Write makes, and nothing else.
type reader struct {
	r    *bufio.Reader
	left int64 // unread content of the current entry
	pad  int   // bytes after it
}

func newReader(r io.Reader) *reader { return &reader{r: bufio.NewReaderSize(r, 1<<20)} }

// next returns the next entry and, for a File with holes, the bytes of its
// hole map; io.EOF at the end of the archive.
func (r *reader) next() (*Entry, []byte, error) {
	if r.left != 0 {
		return nil, nil, errors.New("archive: content not read")
	}
	if _, err := r.r.Discard(r.pad); err != nil {
		return nil, nil, cut(err)
	}
	r.pad = 0
	var pax map[string]string
	for {
		var b [blockSize]byte
		if _, err := io.ReadFull(r.r, b[:]); err != nil {
			return nil, nil, cut(err)
		}
		if b == [blockSize]byte{} {
			return nil, nil, r.end()
		}
		e, size, err := parseUstar(&b)
		if err != nil {
			return nil, nil, err
		}
		if e.Kind != 'x' {
			return r.finish(e, size, pax)
		}
		if pax != nil {
			return nil, nil, corrupt("two extended headers")
		}
		if pax, err = r.pax(size); err != nil {
			return nil, nil, err
		}
	}
}

// end reads the second block of zeros; nothing may follow.
func (r *reader) end() error {
	var b [blockSize]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return cut(err)
	}
	if b != [blockSize]byte{} {
		return corrupt("data after the end")
	}
	if _, err := r.r.ReadByte(); err != io.EOF {
		if err != nil {
			return cut(err)
		}
		return corrupt("data after the end")
	}
	return io.EOF
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("it ends too early")
	}
	return fmt.Errorf("%w: %w", err, ErrCorrupt)
}

func (r *reader) pax(size int64) (map[string]string, error) {
	if size > maxPax {
		return nil, corrupt("extended header of %d bytes", size)
	}
	buf := make([]byte, size+int64(padding(size)))
	if _, err := io.ReadFull(r.r, buf); err != nil {
		return nil, cut(err)
	}
	buf = buf[:size]
	recs := map[string]string{}
	for len(buf) > 0 {
		digits, _, ok := bytes.Cut(buf[:min(len(buf), 20)], []byte{' '})
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n <= len(digits)+1 || n > len(buf) || buf[n-1] != '\n' {
			return nil, corrupt("extended header")
		}
		key, val, ok := strings.Cut(string(buf[len(digits)+1:n-1]), "=")
		if !ok {
			return nil, corrupt("extended header")
		}
		recs[key] = val
		buf = buf[n:]
	}
	return recs, nil
}

// finish applies the extended header and reads the hole map.
func (r *reader) finish(e *Entry, size int64, pax map[string]string) (*Entry, []byte, error) {
	for key, val := range pax {
		if err := applyPax(e, &size, key, val); err != nil {
			return nil, nil, err
		}
	}
	if e.Kind != File && size != 0 {
		return nil, nil, corrupt("entry %q has content", e.Name)
	}
	var err error
	if e.Name, err = cleanName(e.Name); err != nil {
		return nil, nil, err
	}
	if e.Kind == Link {
		if e.Target, err = cleanName(e.Target); err != nil {
			return nil, nil, err
		}
	}
	r.left, r.pad = size, padding(size)
	if !e.Holes {
		e.Size = size
		return e, nil, nil
	}
	holes, err := r.holes(e)
	if err == nil && e.stored() != r.left {
		err = corrupt("hole map of %q", e.Name)
	}
	return e, holes, err
}

func applyPax(e *Entry, size *int64, key, val string) (err error) {
	switch key {
	case "path":
		e.Name = val
	case "linkpath":
		e.Target = val
	case "size":
		*size, err = parseInt(val)
	case "uid":
		e.UID, err = parseID(val)
	case "gid":
		e.GID, err = parseID(val)
	case "mtime":
		e.Mtime, err = parseTime(val)
	case "atime":
		e.Atime, err = parseTime(val)
	case "GNU.sparse.major", "GNU.sparse.minor":
	case "GNU.sparse.name":
		e.Name = val
	case "GNU.sparse.realsize":
		e.Holes = e.Kind == File
		e.Size, err = parseInt(val)
	default:
		name, ok := strings.CutPrefix(key, xattrKey)
		if !ok {
			return corrupt("unknown record %q", key)
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[keyUnescape.Replace(name)] = []byte(val)
	}
	return err
}

// holes reads the hole map and checks that its parts are in order.
func (r *reader) holes(e *Entry) ([]byte, error) {
	var raw []byte
	number := func() (int64, error) {
		line, err := r.r.ReadSlice('\n')
		raw = append(raw, line...)
		if err != nil || len(line) > 21 || int64(len(raw)) > r.left {
			return 0, corrupt("hole map of %q", e.Name)
		}
		return parseInt(string(line[:len(line)-1]))
	}
	n, err := number()
	if err != nil || n > maxParts {
		return nil, corrupt("hole map of %q", e.Name)
	}
	at := int64(0)
	for range n {
		off, err1 := number()
		length, err2 := number()
		if err1 != nil || err2 != nil || off < at || length > e.Size-off || off > e.Size {
			return nil, corrupt("hole map of %q", e.Name)
		}
		at = off + length
		if length > 0 {
			e.Data = append(e.Data, fsx.Range{Off: off, Len: length})
		}
	}
	rest := make([]byte, padding(int64(len(raw))))
	if _, err := io.ReadFull(r.r, rest); err != nil {
		return nil, cut(err)
	}
	raw = append(raw, rest...)
	r.left -= int64(len(raw))
	return raw, nil
}

// Read reads content of the current entry.
func (r *reader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > r.left {
		b = b[:r.left]
	}
	n, err := r.r.Read(b)
	r.left -= int64(n)
	if err != nil && r.left > 0 {
		return n, cut(err)
	}
	return n, nil
}

func parseUstar(b *[blockSize]byte) (*Entry, int64, error) {
	var bad bool
	num := func(field []byte) int64 {
		n, err := strconv.ParseInt(strings.Trim(string(field), " \x00"), 8, 64)
		bad = bad || err != nil || n < 0
		return n
	}
	sum := int64(8 * ' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	if num(b[148:156]) != sum || bad || string(b[257:263]) != "ustar\x00" {
		return nil, 0, corrupt("header checksum")
	}
	e := &Entry{
		Name: text(b[0:100]), Target: text(b[157:257]), Kind: b[156],
		Mode: uint32(num(b[100:108])) & 0o7777, UID: int(num(b[108:116])), GID: int(num(b[116:124])),
		Major: uint32(num(b[329:337])), Minor: uint32(num(b[337:345])),
		Mtime: unix.Timespec{Sec: num(b[136:148])},
	}
	e.Atime = e.Mtime
	size := num(b[124:136])
	if bad || e.Kind != 'x' && (e.Kind < File || e.Kind > Fifo) {
		return nil, 0, corrupt("header of %q", e.Name)
	}
	return e, size, nil
}

func text(field []byte) string {
	s, _, _ := strings.Cut(string(field), "\x00")
	return s
}

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, corrupt("number %q", s)
	}
	return int64(n), nil
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > math.MaxUint32-1 {
		return 0, corrupt("user or group %q", s)
	}
	return int(n), nil
}

// parseTime is the inverse of formatTime.
func parseTime(s string) (unix.Timespec, error) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, _ := strings.Cut(digits, ".")
	sec, err := parseInt(whole)
	if err != nil || len(frac) > 9 {
		return unix.Timespec{}, corrupt("time %q", s)
	}
	var nsec uint64
	if frac != "" {
		if nsec, err = strconv.ParseUint((frac + "00000000")[:9], 10, 32); err != nil {
			return unix.Timespec{}, corrupt("time %q", s)
		}
	}
	t := unix.Timespec{Sec: sec, Nsec: int64(nsec)}
	if neg {
		t.Sec = -t.Sec
		if t.Nsec > 0 {
			t.Sec, t.Nsec = t.Sec-1, 1e9-t.Nsec
		}
	}
	return t, nil
}

// cleanName makes a name relative and refuses what would leave the tree.
func cleanName(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", corrupt("name %q", name)
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		switch p {
		case "", ".":
		case "..":
			return "", corrupt("name %q leads out of the tree", name)
		default:
			if len(p) > 255 {
				return "", corrupt("name %q is too long", name[:64]+"...")
			}
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/"), nil
}
