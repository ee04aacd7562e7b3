package logs

import (
	"context"
	"os"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/logs/record"
)

// reader is one reading of a log.
type reader struct {
	path  string
	opt   runtime.LogOptions
	emit  Emit
	limit int64 // of the last file in bytes; 0 is to its end

	files []*os.File // still to be read, oldest first
	start int64      // where to begin in the first of them
	cur   *scanner   // of the file being read
	last  time.Time  // of the last record seen
}

func (r *reader) closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (r *reader) close() {
	r.closeFiles(r.files)
	if r.cur != nil {
		r.cur.file.Close()
	}
}

// open opens the files and finds where to begin.
func (r *reader) open() (err error) {
	if r.files, err = openAll(r.path); err != nil || r.opt.Tail < 0 {
		return err
	}
	want := lineCounter{left: r.opt.Tail, stdout: r.opt.Stdout, stderr: r.opt.Stderr}
	for i := len(r.files) - 1; i >= 0; i-- {
		at, found, err := want.back(r.files[i])
		if err != nil {
			return err
		}
		if found {
			r.closeFiles(r.files[:i])
			r.files, r.start = r.files[i:], at
			return nil
		}
	}
	return nil
}

// readAll reads to the end as it is now.
func (r *reader) readAll(ctx context.Context) error {
	if r.files == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	for r.next() {
		if len(r.files) == 0 {
			r.cur.limit = r.limit
		}
		if err := r.drain(ctx); err != nil {
			return err
		}
		if err := r.finish(ctx, len(r.files) == 0); err != nil {
			return err
		}
	}
	return nil
}

// next makes the next file the current one.
func (r *reader) next() bool {
	if len(r.files) == 0 {
		return false
	}
	if r.cur != nil {
		r.cur.file.Close()
	}
	r.cur = newScanner(r.files[0], r.start)
	r.files, r.start = r.files[1:], 0
	return true
}

// drain emits the whole records of the current file.
func (r *reader) drain(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rec, damaged, ok, err := r.cur.next()
		if err != nil {
			return err
		}
		if damaged > 0 {
			if err := r.damage(damaged); err != nil {
				return err
			}
		}
		if !ok {
			return nil
		}
		if err := r.record(rec); err != nil {
			return err
		}
	}
}

// settle is how often the end of a file is looked at again, a millisecond
// apart, before an unfinished record counts as torn: it may be being written.
const settle = 5

// finish deals with an unfinished record at the end of a file.
func (r *reader) finish(ctx context.Context, live bool) error {
	for i := 0; live && r.cur.rest() > 0 && r.cur.limit == 0 && i < settle; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
		if err := r.drain(ctx); err != nil {
			return err
		}
	}
	if n := r.cur.drop(); n > 0 {
		return r.damage(n)
	}
	return nil
}

// record emits one record, if it is asked for.
func (r *reader) record(rec record.Record) error {
	r.last = rec.Time
	if !r.selects(rec.Stream, rec.Time) {
		return nil
	}
	e := runtime.LogEntry{Time: rec.Time, Stream: "stdout", Partial: rec.Tag == record.Partial}
	if rec.Stream == record.Stderr {
		e.Stream = "stderr"
	}
	switch rec.Tag {
	case record.Notice:
		e.Line = []byte("[dhow: " + string(rec.Content) + "]\n")
	case record.Full:
		e.Line = append(append(make([]byte, 0, len(rec.Content)+1), rec.Content...), '\n')
	default:
		e.Line = append([]byte(nil), rec.Content...)
	}
	return r.emit(e)
}

func (r *reader) selects(s record.Stream, t time.Time) bool {
	if s == record.Stdout && !r.opt.Stdout || s == record.Stderr && !r.opt.Stderr {
		return false
	}
	if !r.opt.Since.IsZero() && t.Before(r.opt.Since) {
		return false
	}
	return r.opt.Until.IsZero() || !t.After(r.opt.Until)
}

// damage tells of bytes that are no record.
func (r *reader) damage(n int64) error {
	return r.say(itoa(n) + " damaged bytes skipped")
}

func (r *reader) say(text string) error {
	if !r.selects(record.Stderr, r.last) && !r.last.IsZero() || !r.opt.Stderr {
		return nil
	}
	return r.emit(runtime.LogEntry{Time: r.last, Stream: "stderr", Line: []byte("[dhow: " + text + "]\n")})
}
