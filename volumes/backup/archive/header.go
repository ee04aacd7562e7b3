package archive

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

const (
	blockSize  = 512
	maxOctal7  = 1<<21 - 1 // uid, gid, devices: 7 octal digits
	maxOctal11 = 1<<33 - 1 // size, mtime: 11 octal digits
	xattrKey   = "SCHILY.xattr."
)

// appendHeader appends the blocks of e up to its content. For a file with
// holes that includes the hole map, which the second result returns apart: it
// is hashed with the content.
func appendHeader(buf []byte, e *Entry) (out, holes []byte) {
	name := "./" + e.Name
	if e.Kind == Dir && e.Name != "" {
		name += "/"
	}
	size := int64(0)
	if e.Kind == File {
		size = e.stored()
	}
	var rec []byte
	if e.Holes {
		holes = holeMap(e)
		size += int64(len(holes))
		rec = appendRecord(rec, "GNU.sparse.major", "1")
		rec = appendRecord(rec, "GNU.sparse.minor", "0")
		rec = appendRecord(rec, "GNU.sparse.name", name)
		rec = appendRecord(rec, "GNU.sparse.realsize", strconv.FormatInt(e.Size, 10))
		name = "./GNUSparseFile.0/" + e.Name
	}
	target := e.Target
	if e.Kind == Link {
		target = "./" + target
	}
	rec = appendRecords(rec, e, name, target, size)
	if len(rec) > 0 {
		buf = appendUstar(buf, &Entry{Kind: 'x', Mode: 0o644, Mtime: unix.Timespec{Sec: max(e.Mtime.Sec, 0)}}, "./PaxHeaders/"+e.Name, "", int64(len(rec)))
		buf = appendPadded(buf, rec)
	}
	buf = appendUstar(buf, e, name, target, size)
	return append(buf, holes...), holes
}

// appendRecords adds what does not fit into the fixed header.
func appendRecords(rec []byte, e *Entry, name, target string, size int64) []byte {
	if len(name) > 100 && !e.Holes {
		rec = appendRecord(rec, "path", name)
	}
	if len(target) > 100 {
		rec = appendRecord(rec, "linkpath", target)
	}
	if size > maxOctal11 {
		rec = appendRecord(rec, "size", strconv.FormatInt(size, 10))
	}
	if e.UID > maxOctal7 {
		rec = appendRecord(rec, "uid", strconv.Itoa(e.UID))
	}
	if e.GID > maxOctal7 {
		rec = appendRecord(rec, "gid", strconv.Itoa(e.GID))
	}
	if e.Mtime.Nsec != 0 || e.Mtime.Sec < 0 || e.Mtime.Sec > maxOctal11 {
		rec = appendRecord(rec, "mtime", formatTime(e.Mtime))
	}
	rec = appendRecord(rec, "atime", formatTime(e.Atime))
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		rec = appendRecord(rec, xattrKey+keyEscape.Replace(k), string(e.Xattrs[k]))
	}
	return rec
}

// keyEscape is GNU tar's way to have '=' in the name of an attribute.
var (
	keyEscape   = strings.NewReplacer("%", "%25", "=", "%3D")
	keyUnescape = strings.NewReplacer("%3D", "=", "%25", "%")
)

// appendRecord appends "LENGTH KEY=VALUE\n", where LENGTH counts itself.
func appendRecord(rec []byte, key, val string) []byte {
	n := len(key) + len(val) + 3
	size := n + len(strconv.Itoa(n))
	size = n + len(strconv.Itoa(size))
	rec = strconv.AppendInt(rec, int64(size), 10)
	rec = append(rec, ' ')
	rec = append(rec, key...)
	rec = append(rec, '=')
	rec = append(rec, val...)
	return append(rec, '\n')
}

// formatTime writes "seconds.nanoseconds"; the fraction of a time before 1970
// counts towards zero, as in every decimal number.
func formatTime(t unix.Timespec) string {
	sec, nsec, sign := t.Sec, t.Nsec, ""
	if sec < 0 {
		sign = "-"
		sec = -sec
		if nsec > 0 {
			sec--
			nsec = 1e9 - nsec
		}
	}
	s := sign + strconv.FormatInt(sec, 10)
	if nsec == 0 {
		return s
	}
	frac := strconv.FormatInt(1e9+nsec, 10)[1:]
	return s + "." + strings.TrimRight(frac, "0")
}

// holeMap is the map at the head of a sparse file: the number of parts, then
// offset and length of each, padded to whole blocks. A file that ends in a
// hole has an empty part at its end, for readers that do not know realsize.
func holeMap(e *Entry) []byte {
	parts := e.Data
	if n := len(parts); n == 0 || parts[n-1].Off+parts[n-1].Len < e.Size {
		parts = append(slices.Clip(parts), fsx.Range{Off: e.Size})
	}
	m := strconv.AppendInt(nil, int64(len(parts)), 10)
	m = append(m, '\n')
	for _, p := range parts {
		m = append(strconv.AppendInt(m, p.Off, 10), '\n')
		m = append(strconv.AppendInt(m, p.Len, 10), '\n')
	}
	return pad(m)
}

func appendPadded(buf, data []byte) []byte {
	return append(append(buf, data...), zeros[:padding(int64(len(data)))]...)
}

func pad(b []byte) []byte { return append(b, zeros[:padding(int64(len(b)))]...) }

// padding is what n bytes lack to whole blocks.
func padding(n int64) int { return int(-n & (blockSize - 1)) }

var zeros [64 << 10]byte

func appendUstar(buf []byte, e *Entry, name, target string, size int64) []byte {
	var b [blockSize]byte
	copy(b[0:100], name)
	octal(b[100:108], int64(e.Mode))
	octal(b[108:116], int64(min(e.UID, maxOctal7)))
	octal(b[116:124], int64(min(e.GID, maxOctal7)))
	octal(b[124:136], min(size, maxOctal11))
	octal(b[136:148], min(max(e.Mtime.Sec, 0), maxOctal11))
	b[156] = e.Kind
	copy(b[157:257], target)
	copy(b[257:265], "ustar\x0000")
	octal(b[329:337], int64(e.Major))
	octal(b[337:345], int64(e.Minor))
	copy(b[148:156], "        ")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:155], sum)
	return append(buf, b[:]...)
}

// octal fills a field with digits and a final NUL.
func octal(field []byte, n int64) {
	field[len(field)-1] = 0
	for i := len(field) - 2; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}
