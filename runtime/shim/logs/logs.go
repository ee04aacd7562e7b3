package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/logs/record"
)

// Config of a container's log.
type Config = record.Config

// Emit takes one entry. Its error ends the reading and is returned.
type Emit func(runtime.LogEntry) error

// Read calls emit with the entries of the log at path that o selects, oldest
// first. A log that does not exist yet is empty. With o.Follow it goes on until
// ctx ends (the error is then that of ctx) or o.Until has passed.
func Read(ctx context.Context, path string, o runtime.LogOptions, emit func(runtime.LogEntry) error) error {
	return Follow(ctx, path, o, nil, emit)
}

// Follow is Read that, with o.Follow, also ends when stop is closed: after what
// is in the log by then. Close stop when the container has ended.
func Follow(ctx context.Context, path string, o runtime.LogOptions, stop <-chan struct{}, emit func(runtime.LogEntry) error) error {
	r := &reader{path: path, opt: o, emit: emit}
	defer r.close()
	if !o.Follow {
		return r.readAll(ctx)
	}
	if !o.Until.IsZero() {
		until, cancel := context.WithDeadline(ctx, o.Until)
		defer cancel()
		err := r.follow(until, stop)
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
	return r.follow(ctx, stop)
}

// ReadUntil reads everything up to a position of record.Writer.Position.
func ReadUntil(path string, inode uint64, offset int64, emit func(runtime.LogEntry) error) error {
	r := &reader{path: path, opt: runtime.LogOptions{Stdout: true, Stderr: true, Tail: -1}, emit: emit}
	defer r.close()
	if err := r.open(); err != nil {
		return err
	}
	for i, f := range r.files {
		if inodeOf(f) == inode {
			r.closeFiles(r.files[i+1:])
			r.files = r.files[:i+1]
			r.limit = offset
			return r.readAll(context.Background())
		}
	}
	return nil // rotated away meanwhile
}

// openAll opens the current and the older files, oldest first. The writer may
// rotate at the same time; the answer is of one moment.
func openAll(path string) ([]*os.File, error) {
	for range 100 {
		files, err := openOnce(path)
		if err != nil {
			return nil, err
		}
		now, err := os.Stat(path)
		switch {
		case len(files) == 0 && errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case len(files) > 0 && err == nil && inodeOf(files[len(files)-1]) == now.Sys().(*syscall.Stat_t).Ino:
			return files, nil
		case len(files) > 0 && errors.Is(err, fs.ErrNotExist):
			// Between two steps of a rotation, or the current file is lost.
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return files, nil
			}
		}
		for _, f := range files {
			f.Close()
		}
	}
	return nil, errors.New(filepath.Base(path) + ": rotates faster than it can be opened")
}

func openOnce(path string) (files []*os.File, err error) {
	seen := map[uint64]bool{}
	for n, missing := 0, 0; missing < 2; n++ {
		f, err := os.Open(record.Name(path, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing++ // a rotation leaves a gap for a moment
			continue
		}
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		missing = 0
		if ino := inodeOf(f); seen[ino] {
			f.Close()
		} else {
			seen[ino] = true
			files = append([]*os.File{f}, files...)
		}
	}
	return files, nil
}

func inodeOf(f *os.File) uint64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Sys().(*syscall.Stat_t).Ino
}
