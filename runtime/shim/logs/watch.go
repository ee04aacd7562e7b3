package logs

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollEvery is how often a log is looked at when there is no inotify instance left
// (fs.inotify.max_user_instances is 128, and others have theirs).
const pollEvery = 100 * time.Millisecond

// watcher wakes a reader when something in the log's directory changes.
type watcher struct {
	file *os.File // of inotify; nil: poll
	buf  [4096]byte

	once        sync.Once
	interrupted chan struct{} // closed by interrupt, for poll
}

func watch(path string) (*watcher, error) {
	w := &watcher{interrupted: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == unix.EMFILE {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		unix.Close(fd)
		if err == unix.ENOSPC { // of watches
			return w, nil
		}
		return nil, &os.PathError{Op: "watch", Path: filepath.Dir(path), Err: err}
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	return w, nil
}

// interrupt makes wait return from now on.
func (w *watcher) interrupt() {
	if w.file != nil {
		_ = w.file.SetReadDeadline(time.Unix(1, 0))
	}
	w.once.Do(func() { close(w.interrupted) })
}

// wait returns after the next change, or when interrupted.
func (w *watcher) wait() {
	if w.file != nil {
		_, _ = w.file.Read(w.buf[:])
		return
	}
	select {
	case <-time.After(pollEvery):
	case <-w.interrupted:
	}
}

func (w *watcher) close() {
	if w.file != nil {
		w.file.Close()
	}
}

// follow reads, and goes on with what comes.
func (r *reader) follow(ctx context.Context, stop <-chan struct{}) error {
	w, err := watch(r.path) // first, so that nothing between is missed
	if err != nil {
		return err
	}
	defer w.close()
	defer context.AfterFunc(ctx, w.interrupt)()
	gone := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-stop:
			w.interrupt()
		case <-gone:
		}
	}()
	defer func() { close(gone); <-watching }()

	if err := r.open(); err != nil {
		return err
	}
	for {
		stopped := closed(stop) // before the reading: what is there now must come
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		if stopped {
			if r.cur == nil {
				return nil
			}
			return r.finish(ctx, true)
		}
		w.wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// catchUp reads all there is, through rotations.
func (r *reader) catchUp(ctx context.Context) error {
	for {
		if r.cur == nil && !r.next() {
			files, err := openAll(r.path)
			if err != nil || len(files) == 0 {
				return err
			}
			r.files = files
			continue
		}
		if err := r.drain(ctx); err != nil {
			return err
		}
		if len(r.files) == 0 {
			newer, lost, err := r.newer()
			if err != nil || len(newer) == 0 {
				return err
			}
			// The writer is done with the current file: read its rest.
			if err := r.drain(ctx); err != nil {
				r.closeFiles(newer)
				return err
			}
			r.files = newer
			if lost {
				if err := r.say("the log was rotated faster than it was read"); err != nil {
					return err
				}
			}
		}
		if err := r.finish(ctx, false); err != nil {
			return err
		}
		r.next()
	}
}

// newer opens the files that came after the current one. lost: the current one
// is not among the older files any more, so more may have gone.
func (r *reader) newer() (files []*os.File, lost bool, err error) {
	current, err := os.Stat(r.path)
	if err == nil {
		if st, err := r.cur.file.Stat(); err == nil && os.SameFile(st, current) {
			return nil, false, nil
		}
	}
	all, err := openAll(r.path)
	if err != nil {
		return nil, false, err
	}
	ino := inodeOf(r.cur.file)
	for i, f := range all {
		if inodeOf(f) == ino {
			r.closeFiles(all[:i+1])
			return all[i+1:], false, nil
		}
	}
	return all, len(all) > 1, nil
}
