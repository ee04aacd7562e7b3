package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/logs"
)

// Logs calls emit with the entries that opt selects. Following ends when the
// container has ended for good, or is removed, with everything that it wrote.
func (e *Engine) Logs(ctx context.Context, ref string, opt runtime.LogOptions, emit func(runtime.LogEntry) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if c.spec().Log.Driver == "none" {
		return fmt.Errorf("logs of container %s: its log driver is none: %w", c.name(), runtime.ErrInvalid)
	}
	path := e.store.logPath(c.id)
	if !opt.Follow {
		return readLog(ctx, path, opt, emit)
	}
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &follower{emit: emit}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.waitEnd(following)
		cancel()
	}()
	err = readLog(following, path, opt, f.take)
	if f.err != nil {
		return f.err
	}
	if ctx.Err() != nil || (err != nil && following.Err() == nil) {
		cancel()
		<-ended
		return errors.Join(ctx.Err(), err)
	}
	cancel()
	<-ended
	// What was written between the follower's last look and the end.
	rest := opt
	rest.Follow, rest.Tail = false, -1
	if f.seen > 0 {
		rest.Since = f.last
	} else if opt.Tail >= 0 {
		rest.Tail = opt.Tail
	}
	return readLog(ctx, path, rest, f.rest)
}

// follower counts what has been emitted, so that a second reading can go on
// where the first was cut off: entries are written in the order of their times.
type follower struct {
	emit func(runtime.LogEntry) error
	err  error
	seen int
	last time.Time
	same int // entries emitted with the time last
}

func readLog(ctx context.Context, path string, opt runtime.LogOptions, emit func(runtime.LogEntry) error) error {
	err := logs.Read(ctx, path, opt, emit)
	if errors.Is(err, fs.ErrNotExist) && !opt.Follow {
		return nil // nothing was ever written
	}
	return err
}

func (f *follower) take(en runtime.LogEntry) error {
	if f.err = f.emit(en); f.err != nil {
		return f.err
	}
	f.seen++
	if en.Time.Equal(f.last) {
		f.same++
	} else {
		f.last, f.same = en.Time, 1
	}
	return nil
}

func (f *follower) rest(en runtime.LogEntry) error {
	if f.seen > 0 && en.Time.Equal(f.last) && f.same > 0 {
		f.same--
		return nil
	}
	f.same = 0
	return f.emit(en)
}

// waitEnd returns when the container runs no more and will not be restarted,
// or ctx ends. A container that never ran is waited for.
func (c *container) waitEnd(ctx context.Context) {
	for {
		c.mu.Lock()
		s, gone, changed := c.st.Status, c.gone, c.changed
		c.mu.Unlock()
		if gone || (!alive(s) && s != runtime.Restarting && s != runtime.Created) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
