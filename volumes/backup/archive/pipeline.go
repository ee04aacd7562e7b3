package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// chunkSize of the tar stream becomes one zstd frame. Larger frames compress a
// little better and spread worse over the cores.
const chunkSize = 4 << 20

// chunk is a piece of the tar stream on its way to hashing and compression.
type chunk struct {
	buf    []byte
	pieces []piece
	refs   atomic.Int32
}

// piece is a part of a chunk that belongs to one entry's content.
type piece struct {
	rec      *Record
	from, to int
	last     bool // the entry ends here
}

type job struct {
	c   *chunk
	out chan []byte
}

// pipeline compresses and hashes the chunks that one producer fills.
type pipeline struct {
	ctx    context.Context // cancelled by the first error
	fail   context.CancelCauseFunc
	group  errgroup.Group
	free   chan *chunk
	bufs   chan []byte // compressed chunks to be used again
	hashes chan *chunk
	jobs   chan job
	order  chan job
	cur    *chunk
	stored int64 // written by the output goroutine, read after wait
}

// newPipeline starts the goroutines; wait ends them. onRecord gets every
// finished record in order, from one goroutine; nil: nothing is hashed.
func newPipeline(ctx context.Context, w io.Writer, level zstd.EncoderLevel, onRecord func(*Record) error) (*pipeline, error) {
	workers := max(runtime.GOMAXPROCS(0), 2)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(workers), zstd.WithWindowSize(chunkSize))
	if err != nil {
		return nil, err
	}
	ctx, fail := context.WithCancelCause(ctx)
	depth := workers + 3
	p := &pipeline{
		ctx: ctx, fail: fail,
		free:   make(chan *chunk, depth),
		bufs:   make(chan []byte, depth),
		hashes: make(chan *chunk, depth),
		jobs:   make(chan job, depth),
		order:  make(chan job, depth),
	}
	for range depth {
		p.free <- &chunk{buf: make([]byte, 0, chunkSize)}
		p.bufs <- nil
	}
	p.cur = <-p.free
	for range workers {
		p.group.Go(func() error { p.compress(enc); return nil })
	}
	p.group.Go(func() error { return p.hash(onRecord) })
	p.group.Go(func() error { return p.output(w) })
	return p, nil
}

// room returns the unused rest of the current chunk, at least one byte.
func (p *pipeline) room() ([]byte, error) {
	if len(p.cur.buf) == cap(p.cur.buf) {
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	return p.cur.buf[len(p.cur.buf):cap(p.cur.buf)], nil
}

// advance takes n bytes of room into the stream; rec, when not nil, gets them hashed.
func (p *pipeline) advance(n int, rec *Record) {
	at := len(p.cur.buf)
	p.cur.buf = p.cur.buf[:at+n]
	if rec != nil && n > 0 {
		p.cur.pieces = append(p.cur.pieces, piece{rec: rec, from: at, to: at + n})
	}
}

// write copies b into the stream.
func (p *pipeline) write(b []byte, rec *Record) error {
	for len(b) > 0 {
		room, err := p.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		p.advance(n, rec)
		b = b[n:]
	}
	return nil
}

// end says that the content of rec is complete.
func (p *pipeline) end(rec *Record) {
	p.cur.pieces = append(p.cur.pieces, piece{rec: rec, last: true})
}

func (p *pipeline) flush() error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	c := p.cur
	c.refs.Store(2)
	j := job{c, make(chan []byte, 1)}
	// The goroutines drain these channels also after an error.
	p.order <- j
	p.jobs <- j
	p.hashes <- c
	select {
	case p.cur = <-p.free:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// wait flushes, unless the producer failed with err, and ends the goroutines.
func (p *pipeline) wait(err error) error {
	if err == nil && (len(p.cur.buf) > 0 || len(p.cur.pieces) > 0) {
		err = p.flush()
	}
	close(p.jobs)
	close(p.hashes)
	close(p.order)
	gerr := p.group.Wait()
	p.fail(nil)
	if gerr != nil {
		return gerr // the producer's error is only its echo
	}
	return err
}

func (p *pipeline) done(c *chunk) {
	if c.refs.Add(-1) == 0 {
		c.buf, c.pieces = c.buf[:0], c.pieces[:0]
		p.free <- c
	}
}

func (p *pipeline) compress(enc *zstd.Encoder) {
	for j := range p.jobs {
		buf := <-p.bufs
		if p.ctx.Err() == nil && len(j.c.buf) > 0 {
			buf = enc.EncodeAll(j.c.buf, buf[:0])
		} else {
			buf = buf[:0]
		}
		p.done(j.c)
		j.out <- buf
	}
}

func (p *pipeline) output(w io.Writer) error {
	var err error
	for j := range p.order {
		buf := <-j.out
		if err == nil && len(buf) > 0 {
			var n int
			n, err = w.Write(buf)
			p.stored += int64(n)
		}
		p.bufs <- buf
		if err != nil {
			p.fail(err)
		}
	}
	return err
}

func (p *pipeline) hash(onRecord func(*Record) error) error {
	h := sha256.New()
	var err error
	for c := range p.hashes {
		if onRecord != nil && err == nil {
			err = hashChunk(h, c, onRecord)
		}
		p.done(c)
		if err != nil {
			p.fail(err)
		}
	}
	return err
}

func hashChunk(h hash.Hash, c *chunk, onRecord func(*Record) error) error {
	for _, pc := range c.pieces {
		h.Write(c.buf[pc.from:pc.to])
		if !pc.last {
			continue
		}
		if pc.rec.Kind == string(rune(File)) {
			pc.rec.Sum = hex.EncodeToString(h.Sum(nil))
		}
		h.Reset()
		if err := onRecord(pc.rec); err != nil {
			return err
		}
	}
	return nil
}
