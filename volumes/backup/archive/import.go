package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// Import reads any tar archive, plain or compressed with gzip or zstd, into
// dir, an empty directory. Names are taken as relative to dir; one that leads
// out of it, also by way of a symbolic link, is an error. What does not fit on
// the disk is refused before it fills it.
func Import(ctx context.Context, r io.Reader, dir string) (Summary, error) {
	in, done, err := decompress(&ctxReader{ctx, r})
	if err != nil {
		return Summary{}, err
	}
	defer done()
	x, err := newExtractor(dir)
	if err != nil {
		return Summary{}, err
	}
	defer x.close()
	end := &endReader{r: in}
	tr := tar.NewReader(end)
	for {
		h, err := tr.Next()
		if err == io.EOF { //nolint:errorlint // the value itself: a wrapped one is an archive cut short
			break
		}
		if err == nil {
			err = importEntry(ctx, x, h, tr)
		}
		if ctx.Err() != nil {
			return x.sum, context.Cause(ctx)
		}
		if err != nil {
			return x.sum, foreign(err)
		}
	}
	if x.sum.Files == 0 {
		return x.sum, corrupt("no tar archive, or an empty one")
	}
	if end.reached {
		return x.sum, corrupt("the archive was cut off: it lacks the two empty blocks at its end")
	}
	return x.finish()
}

// endReader notes whether somebody read up to the end of r. archive/tar stops
// before it at the mark that ends an archive, and takes an archive that was
// cut off between two entries for a whole one.
type endReader struct {
	r       io.Reader
	reached bool
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.reached = e.reached || n == 0 && err == io.EOF
	return n, err
}

// foreign marks what the decoders say about the archive's bytes.
func foreign(err error) error {
	var errno unix.Errno
	if errors.Is(err, ErrCorrupt) || errors.As(err, &errno) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ErrCorrupt)
}

func importEntry(ctx context.Context, x *extractor, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	e, err := fromHeader(h)
	if err != nil {
		return err
	}
	if !e.Holes {
		return x.add(ctx, e, content)
	}
	// archive/tar fills the holes with zeros: find them again.
	e.Holes = false
	size := e.Size
	e.Size = 0
	if err := x.add(ctx, e, nil); err != nil {
		return err
	}
	return x.punched(ctx, e, size, content)
}

// maxHoled bounds the size of a file with holes, which costs an archive
// nothing but whoever reads it time: the largest file of ext4.
const maxHoled = 16 << 40

func fromHeader(h *tar.Header) (*Entry, error) {
	e := &Entry{
		Kind: h.Typeflag, Target: h.Linkname, Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, Size: h.Size,
		Major: uint32(h.Devmajor), Minor: uint32(h.Devminor),
	}
	var err error
	if e.Name, err = cleanName(h.Name); err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeCont:
		e.Kind = File
	case tar.TypeGNUSparse:
		e.Kind, e.Holes = File, true
	case Link:
		if e.Target, err = cleanName(h.Linkname); err != nil {
			return nil, err
		}
	case File, Symlink, Char, Block, Dir, Fifo:
	default:
		return nil, corrupt("entry %q has type %q", h.Name, h.Typeflag)
	}
	if e.Mtime, err = unix.TimeToTimespec(h.ModTime); err != nil {
		return nil, corrupt("time of %q", h.Name)
	}
	e.Atime = e.Mtime
	if !h.AccessTime.IsZero() {
		if e.Atime, err = unix.TimeToTimespec(h.AccessTime); err != nil {
			return nil, corrupt("time of %q", h.Name)
		}
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrKey); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[keyUnescape.Replace(name)] = []byte(v)
		}
		if strings.HasPrefix(k, "GNU.sparse.") && e.Kind == File {
			e.Holes = true
		}
	}
	if e.UID < 0 || e.GID < 0 {
		return nil, corrupt("owner of %q", h.Name)
	}
	return e, nil
}

// punched writes content of size bytes into the file that was just made,
// leaving out blocks of zeros.
func (x *extractor) punched(ctx context.Context, e *Entry, size int64, content io.Reader) error {
	if size > maxHoled {
		return corrupt("file %q has %d bytes", e.Name, size)
	}
	base := e.Name[strings.LastIndexByte(e.Name, '/')+1:]
	f, err := fsx.OpenWrite(x.dir, base)
	if err != nil {
		return err
	}
	defer f.Close()
	const step = 64 << 10
	for at := int64(0); at < size; at += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := x.buf[:min(step, size-at)]
		if _, err := io.ReadFull(content, b); err != nil {
			return cut(err)
		}
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		if err := x.copy(f, fsx.Range{Off: at, Len: int64(len(b))}, bytes.NewReader(bytes.Clone(b))); err != nil {
			return err
		}
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return errors.Join(f.Close(), x.meta(x.dir, base, e))
}

// decompress looks at the first bytes.
func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic, _ := br.Peek(6)
	has := func(s string) bool { return bytes.HasPrefix(magic, []byte(s)) }
	switch {
	case has("\x28\xb5\x2f\xfd"):
		dec, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return dec, dec.Close, nil
	case has("\x1f\x8b"):
		gz, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, corrupt("gzip: %v", err)
		}
		return gz, func() { _ = gz.Close() }, nil
	case has("BZh"), has("\xfd7zXZ"):
		return nil, nil, corrupt("compressed with bzip2 or xz, which is not known: use zstd, gzip or none")
	}
	return br, func() {}, nil
}
