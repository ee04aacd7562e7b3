package dirrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/backup/archive"
)

// List returns the backups of one volume or of all, oldest first within a
// volume. One whose manifest is unreadable is listed with its Error.
func (r *Repo) List(ctx context.Context, volume string) ([]backup.Info, error) {
	names := []string{volume}
	if volume == "" {
		var err error
		if names, err = dirNames(filepath.Join(r.dir, "volumes")); err != nil {
			return nil, err
		}
	} else if err := volumes.CheckName(volume); err != nil {
		return nil, err
	}
	var list []backup.Info
	for _, name := range names {
		ids, err := dirNames(r.volumeDir(name))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if checkID(id) != nil || volumes.CheckName(name) != nil {
				continue
			}
			m, err := readManifest(filepath.Join(r.volumeDir(name), id))
			if err != nil {
				list = append(list, backup.Info{ID: id, Volume: name, Error: err.Error()})
				continue
			}
			list = append(list, m.Info)
		}
	}
	return list, nil
}

// dirNames are the names in dir, sorted; a missing directory has none.
func dirNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// Verify reads the whole backup.
func (r *Repo) Verify(ctx context.Context, b backup.Info) error {
	_, err := r.read(ctx, b, "")
	return err
}

// Get writes the tree into dir and verifies it on the way; after an error dir
// may hold anything.
func (r *Repo) Get(ctx context.Context, b backup.Info, dir string) (backup.Result, error) {
	sum, err := r.read(ctx, b, dir)
	return backup.Result{Volume: b.Volume, Backup: b.ID, Files: sum.Files, Bytes: sum.Bytes, Warnings: sum.Warnings}, err
}

func (r *Repo) read(ctx context.Context, b backup.Info, dir string) (archive.Summary, error) {
	at, err := r.backupDir(b)
	if err != nil {
		return archive.Summary{}, err
	}
	m, err := readManifest(at)
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := os.Stat(at); serr == nil {
			return archive.Summary{}, fmt.Errorf("the manifest is missing: %w", ErrCorrupt)
		}
		return archive.Summary{}, fmt.Errorf("backup %s of %s: %w", b.ID, b.Volume, runtime.ErrNotFound)
	}
	if err != nil {
		return archive.Summary{}, err
	}
	index, err := openSummed(filepath.Join(at, indexName), m.Index)
	if err != nil {
		return archive.Summary{}, err
	}
	defer index.f.Close()
	data, err := openSummed(filepath.Join(at, dataName), m.Data)
	if err != nil {
		return archive.Summary{}, err
	}
	defer data.f.Close()
	sum, err := compare(ctx, data, index, dir)
	if err != nil {
		return sum, err
	}
	if err := errors.Join(index.check(), data.check()); err != nil {
		return sum, err
	}
	if sum.Files != m.Info.Files || sum.Bytes != m.Info.Bytes {
		return sum, fmt.Errorf("it holds %d files and %d bytes, not %d and %d: %w", sum.Files, sum.Bytes, m.Info.Files, m.Info.Bytes, ErrCorrupt)
	}
	return sum, nil
}

// compare reads data and checks each entry against the index.
func compare(ctx context.Context, data, index io.Reader, dir string) (archive.Summary, error) {
	ir, err := newIndexReader(index)
	if err != nil {
		return archive.Summary{}, err
	}
	defer ir.dec.Close()
	sum, err := archive.Extract(ctx, data, dir, func(got *archive.Record) error {
		want, err := ir.next()
		if err != nil {
			return fmt.Errorf("%s: %w: %w", indexName, err, ErrCorrupt)
		}
		if !want.Equal(got) {
			return fmt.Errorf("%s differs from its record: %w", got.Name, ErrCorrupt)
		}
		return nil
	})
	if errors.Is(err, archive.ErrCorrupt) {
		return sum, fmt.Errorf("%s: %w: %w", dataName, err, ErrCorrupt)
	}
	if err != nil {
		return sum, err
	}
	if _, err := ir.next(); err != io.EOF { //nolint:errorlint // the value itself: a wrapped one is an index cut short
		return sum, fmt.Errorf("%s names more files than there are: %w", indexName, ErrCorrupt)
	}
	return sum, nil
}

// summedReader hashes a file while it is read.
type summedReader struct {
	f    *os.File
	h    hash.Hash
	want fileSum
	got  int64
}

func openSummed(path string, want fileSum) (*summedReader, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: %w", filepath.Base(path), ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != want.Size {
		err = fmt.Errorf("%s has %d bytes, not %d: %w", filepath.Base(path), fi.Size(), want.Size, ErrCorrupt)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &summedReader{f: f, h: sha256.New(), want: want}, nil
}

func (s *summedReader) Read(b []byte) (int, error) {
	n, err := s.f.Read(b)
	s.h.Write(b[:n])
	s.got += int64(n)
	return n, err
}

// check reads the rest, if any, and compares the checksum.
func (s *summedReader) check() error {
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{s}); err != nil {
		return err
	}
	if got := hex.EncodeToString(s.h.Sum(nil)); got != strings.ToLower(s.want.Sum) || s.got != s.want.Size {
		return fmt.Errorf("%s: checksum differs: %w", filepath.Base(s.f.Name()), ErrCorrupt)
	}
	return nil
}
