package dirrepo

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/backup/archive"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// Put writes a backup beside the others and publishes it by a rename.
func (r *Repo) Put(ctx context.Context, meta backup.Info, dir string) (info backup.Info, err error) {
	if err := volumes.CheckName(meta.Volume); err != nil {
		return meta, err
	}
	meta.Created = time.Now().UTC()
	meta.ID = newID(meta.Created)
	tmp, held, err := r.begin(meta.ID)
	if err != nil {
		return meta, err
	}
	defer held.Close()
	defer func() {
		if info.ID == "" { // also after a panic
			err = errors.Join(err, fsx.RemoveTree(tmp))
		}
	}()
	if err := fill(ctx, tmp, &meta, dir); err != nil {
		return backup.Info{}, err
	}
	if err := r.publish(tmp, meta); err != nil {
		return backup.Info{}, err
	}
	return meta, nil
}

func fill(ctx context.Context, tmp string, meta *backup.Info, dir string) error {
	data, err := newSummed(filepath.Join(tmp, dataName))
	if err != nil {
		return err
	}
	defer data.f.Close()
	index, err := newIndexWriter(filepath.Join(tmp, indexName))
	if err != nil {
		return err
	}
	defer index.file.f.Close()
	sum, err := archive.Write(ctx, data, dir, index.add)
	if err != nil {
		return err
	}
	m := manifest{Format: format}
	if m.Data, err = data.close(); err != nil {
		return err
	}
	if m.Index, err = index.close(); err != nil {
		return err
	}
	meta.Files, meta.Bytes, meta.Warnings = sum.Files, sum.Bytes, sum.Warnings
	meta.Stored = m.Data.Size + m.Index.Size
	m.Info = *meta
	raw, err := m.encode()
	if err != nil {
		return err
	}
	return fsx.WriteFile(filepath.Join(tmp, manifestName), raw, true)
}

// publish renames the finished backup into place.
func (r *Repo) publish(tmp string, meta backup.Info) error {
	vol := r.volumeDir(meta.Volume)
	if err := os.MkdirAll(vol, 0o700); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(tmp, "lock")); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(vol, meta.ID)); err != nil {
		return err
	}
	return errors.Join(fsx.SyncDir(vol), fsx.SyncDir(filepath.Dir(vol)))
}

// summed is a file that hashes what is written to it.
type summed struct {
	f    *os.File
	h    hash.Hash
	size int64
}

func newSummed(path string) (*summed, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &summed{f: f, h: sha256.New()}, nil
}

func (s *summed) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	s.h.Write(b[:n])
	s.size += int64(n)
	return n, err
}

// close makes the file durable.
func (s *summed) close() (fileSum, error) {
	err := errors.Join(s.f.Sync(), s.f.Close())
	return fileSum{Size: s.size, Sum: hex.EncodeToString(s.h.Sum(nil))}, err
}

// indexWriter writes records as compressed lines of JSON.
type indexWriter struct {
	file *summed
	enc  *zstd.Encoder
	buf  *bufio.Writer
}

func newIndexWriter(path string) (*indexWriter, error) {
	f, err := newSummed(path)
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	return &indexWriter{file: f, enc: enc, buf: bufio.NewWriterSize(enc, 64<<10)}, nil
}

func (w *indexWriter) add(r *archive.Record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.buf.Write(append(line, '\n'))
	return err
}

func (w *indexWriter) close() (fileSum, error) {
	if err := errors.Join(w.buf.Flush(), w.enc.Close()); err != nil {
		return fileSum{}, err
	}
	return w.file.close()
}

// indexReader reads them back.
type indexReader struct {
	dec *zstd.Decoder
	buf *bufio.Scanner
}

func newIndexReader(r io.Reader) (*indexReader, error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	s := bufio.NewScanner(dec)
	s.Buffer(make([]byte, 64<<10), 1<<20)
	return &indexReader{dec: dec, buf: s}, nil
}

// next returns io.EOF after the last record.
func (r *indexReader) next() (*archive.Record, error) {
	if !r.buf.Scan() {
		if err := r.buf.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	rec := &archive.Record{}
	if err := json.Unmarshal(r.buf.Bytes(), rec); err != nil {
		return nil, err
	}
	return rec, nil
}
