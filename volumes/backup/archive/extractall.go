package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a foreign zstd stream can ask for.
const maxWindow = 128 << 20

// Extract reads a stream of Write into dir, an empty directory. index, when
// not nil, gets a Record of every entry after it was read, and may refuse it.
// An empty dir reads and hashes without writing.
func Extract(ctx context.Context, r io.Reader, dir string, index func(*Record) error) (Summary, error) {
	dec, err := zstd.NewReader(&ctxReader{ctx, r}, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return Summary{}, err
	}
	defer dec.Close()
	var x *extractor
	if dir != "" {
		if x, err = newExtractor(dir); err != nil {
			return Summary{}, err
		}
		defer x.close()
	}
	sum, err := extract(ctx, newReader(dec), x, index)
	if err != nil && ctx.Err() != nil {
		return sum, context.Cause(ctx)
	}
	return sum, err
}

func extract(ctx context.Context, r *reader, x *extractor, index func(*Record) error) (Summary, error) {
	var sum Summary
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		e, holes, err := r.next()
		if err == io.EOF { //nolint:errorlint // the value itself: a wrapped one is an archive cut short
			break
		}
		if err != nil {
			return sum, err
		}
		h.Reset()
		h.Write(holes)
		content := io.TeeReader(r, h)
		if x != nil {
			err = x.add(ctx, e, content)
		} else {
			sum.Files++
			sum.Bytes += r.left
		}
		if err == nil { // without an extractor: all of it
			_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{content}, buf)
		}
		if err != nil {
			return sum, err
		}
		rec := recordOf(e)
		if e.Kind == File {
			rec.Sum = hex.EncodeToString(h.Sum(nil))
		}
		if index != nil {
			if err := index(rec); err != nil {
				return sum, err
			}
		}
	}
	if x == nil {
		return sum, nil
	}
	return x.finish()
}

// Equal says whether two records mean the same bytes.
func (r *Record) Equal(o *Record) bool {
	return r.Name == o.Name && string(r.Raw) == string(o.Raw) && r.Kind == o.Kind && r.Size == o.Size && r.Sum == o.Sum && r.Holes == o.Holes
}

// ctxReader ends a read when the context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
