package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
)

// follower prints what the containers of a stack say, through all their lives:
// the daemon ends a container's stream when the container ends.
type follower struct {
	app    *app
	client *client.Client
	req    logRequest
	out    *prefixer
	group  *errgroup.Group

	begun time.Time          // by our clock
	asked runtime.LogOptions // for containers that there were then

	key     string // of the state when the containers were listed last
	running int    // of them

	mu   sync.Mutex
	seen map[string]*followed // guarded by mu, by container id
}

// followed is a container that was picked up.
type followed struct {
	open  bool      // its stream is read
	task  time.Time // of its task's status when it was picked up last
	since time.Time // lines before are not asked for
	last  time.Time // of the last line that was printed
}

// follow prints the output of list and of the stack's containers that come
// later, until the stack is gone, ctx ends or, with untilStopped, nothing runs.
func (a *app) follow(ctx context.Context, c *client.Client, r logRequest, list []container.Summary, opt runtime.LogOptions, p *prefixer) error {
	g, gctx := errgroup.WithContext(ctx)
	f := &follower{app: a, client: c, req: r, out: p, group: g, begun: time.Now(), asked: opt, seen: map[string]*followed{}}
	opt, err := f.past(ctx, list, opt)
	if err != nil {
		return err
	}
	for _, ct := range list {
		f.pick(gctx, ct, opt, time.Time{})
	}
	g.Go(func() error {
		err := c.WatchStack(gctx, r.stack, func(st api.StackStatus) error { return f.changed(gctx, st, opt) })
		if client.IsNotFound(err) || errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	err = g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// past prints what several containers have printed so far, in order, and
// returns opt for what comes: that is printed as it comes.
func (f *follower) past(ctx context.Context, list []container.Summary, opt runtime.LogOptions) (runtime.LogOptions, error) {
	now := time.Now()
	if len(list) < 2 || !opt.Until.IsZero() || opt.Since.After(now) {
		return opt, nil
	}
	for _, ct := range list {
		f.out.add(ct)
	}
	before := opt
	before.Until = now
	if err := f.app.pastLogs(ctx, f.client, list, before, f.req.timestamps, f.out); err != nil {
		return opt, err
	}
	opt.Tail, opt.Since = -1, now.Add(time.Nanosecond)
	return opt, nil
}

// changed picks up containers that are new or live again. Its io.EOF means that nothing runs any more.
func (f *follower) changed(ctx context.Context, st api.StackStatus, opt runtime.LogOptions) error {
	if key := f.keyOf(st); key != f.key {
		if err := f.list(ctx, st, opt); err != nil {
			return err
		}
		f.key = key
		if f.app.someSilent() {
			f.key = "" // what is there was not seen
		}
	}
	if f.req.untilStopped && f.running == 0 && settled(st) {
		return io.EOF
	}
	return nil
}

// keyOf is the same for two states between which no container has come, gone or
// begun to live: there is nothing to list.
func (f *follower) keyOf(st api.StackStatus) string {
	var b strings.Builder
	for i := range st.Tasks {
		t := &st.Tasks[i]
		if len(f.req.services) == 0 || slices.Contains(f.req.services, t.Service) {
			fmt.Fprintln(&b, t.ID, t.Status.ContainerID, t.Status.State, t.Status.Time.UnixNano(), away(st, t))
		}
	}
	return b.String()
}

// list picks up what there is to read.
func (f *follower) list(ctx context.Context, st api.StackStatus, opt runtime.LogOptions) error {
	list, err := f.app.containers(ctx, f.client, f.req.stack, f.req.services, true)
	if err != nil {
		return err
	}
	times := map[string]time.Time{}
	for _, t := range st.Tasks {
		times[t.Status.ContainerID] = t.Status.Time
	}
	opt.Tail, opt.Since = -1, time.Time{} // containers that come later are printed from their start
	f.running = 0
	for _, ct := range list {
		o := opt
		if time.Unix(ct.Created, 0).Before(f.begun) { // its node did not answer then
			o = f.asked
		}
		f.pick(ctx, ct, o, times[ct.ID])
		if runs(ct) {
			f.running++
		}
	}
	return nil
}

func runs(ct container.Summary) bool {
	return ct.State == container.StateRunning || ct.State == container.StatePaused || ct.State == container.StateRestarting
}

// pick reads a container unless that is done already. One whose stream has
// ended is read again when it runs, and when its task has changed: it may have
// lived and ended since.
func (f *follower) pick(ctx context.Context, ct container.Summary, o runtime.LogOptions, task time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[ct.ID]
	switch {
	case s == nil:
		s = &followed{since: o.Since}
		f.seen[ct.ID] = s
		f.out.add(ct)
	case s.open || !runs(ct) && task.Equal(s.task):
		return
	default:
		o = s.resume(o)
		f.app.back(f.app.hostOf(ct.ID))
	}
	s.open, s.task = true, task
	f.group.Go(func() error { return f.read(ctx, ct, s, o) })
}

// resume is o for what came after the last line that was printed.
func (s *followed) resume(o runtime.LogOptions) runtime.LogOptions {
	o.Tail, o.Since = -1, s.since
	if !s.last.IsZero() {
		o.Since = s.last.Add(time.Nanosecond)
	}
	return o
}

// maxTries bounds how often a stream from a node that went is asked for again:
// it may be a moment's cut, of which the state says nothing.
const maxTries = 10

// sleep returns after d, or false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// read prints a container's output until it ends and does not run again.
func (f *follower) read(ctx context.Context, ct container.Summary, s *followed, o runtime.LogOptions) error {
	tries := 0
	for {
		begun := time.Now()
		last, err := f.out.follow(ctx, f.client, ct, o, f.req.timestamps)
		if !last.IsZero() && tries > 0 {
			tries = 0
			f.app.back(f.app.hostOf(ct.ID))
		}
		if client.IsNotFound(err) {
			return nil // removed: its id does not come back, and stays seen
		}
		if ctx.Err() == nil && f.app.lost(ct.ID, err) {
			f.mu.Lock()
			s.last = later(last, s.last, o.Tail, begun)
			tries++
			s.open = tries < maxTries // then: when the state says that its node is back
			f.mu.Unlock()
			if tries == maxTries || !sleep(ctx, lookAgain) {
				return nil
			}
			o = s.resume(o)
			continue
		}
		if err != nil {
			return err
		}
		again, err := f.ended(ctx, ct, s, later(last, s.last, o.Tail, begun))
		if err != nil || !again || !o.Until.IsZero() {
			return err
		}
		o = s.resume(o)
	}
}

// later is the time after which lines are new: that of the last one, or the
// start of the reading when --tail left out what was before and nothing came.
func later(last, before time.Time, tail int, begun time.Time) time.Time {
	switch {
	case !last.IsZero():
		return last
	case before.IsZero() && tail >= 0:
		return begun
	}
	return before
}

// ended notes the end of a stream and says whether the container lives again.
// The note comes before the look, so that one of the two sees a start meanwhile.
func (f *follower) ended(ctx context.Context, ct container.Summary, s *followed, last time.Time) (again bool, err error) {
	f.mu.Lock()
	s.open, s.last = false, last
	f.mu.Unlock()
	list, err := f.app.containers(ctx, f.client, f.req.stack, f.req.services, false)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, now := range list {
		if now.ID == ct.ID && !s.open {
			s.open, again = true, true
		}
	}
	return again, nil
}

// follow is copy of a stream whose lines begin with their times; they are
// printed with stamps only. It returns the time of the last line.
func (p *prefixer) follow(ctx context.Context, c *client.Client, ct container.Summary, o runtime.LogOptions, stamps bool) (last time.Time, err error) {
	var mu sync.Mutex
	line := func(b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		stamp, text, _ := bytes.Cut(b, []byte(" "))
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil { // a piece of a long line has none
			if t.After(last) {
				last = t
			}
			if !stamps {
				b = text
			}
		}
		return p.print(ct, b)
	}
	stdout, stderr := &lineWriter{line: line}, &lineWriter{line: line}
	err = c.Logs(ctx, ct.ID, o, true, stdout, stderr)
	return last, errors.Join(err, stdout.flush(), stderr.flush())
}
