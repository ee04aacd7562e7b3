package keeper

import (
	"syscall"
	"time"
)

const (
	readable = syscall.EPOLLIN
	writable = syscall.EPOLLOUT
)

// watch is one descriptor that the loop waits for.
type watch struct {
	fd     int
	gen    int32 // tells a late event of a closed descriptor from its successor's
	events uint32
	fn     func(events uint32)
}

type timer struct {
	at time.Time
	fn func()
}

// loop waits for descriptors and timers and calls their functions.
type loop struct {
	ep      int
	gen     int32
	watches map[int32]*watch
	timers  []*timer
	events  [32]syscall.EpollEvent
}

func newLoop() (*loop, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return &loop{ep: ep, watches: map[int32]*watch{}}, err
}

// watch makes a watch that waits for nothing yet.
func (l *loop) watch(fd int, fn func(events uint32)) *watch {
	l.gen++
	return &watch{fd: fd, gen: l.gen, fn: fn}
}

// want sets what w waits for. 0 takes it out of epoll altogether: a hang-up
// would be reported again and again otherwise.
func (l *loop) want(w *watch, events uint32) {
	if w.events == events {
		return
	}
	op := syscall.EPOLL_CTL_MOD
	switch {
	case events == 0:
		op = syscall.EPOLL_CTL_DEL
		delete(l.watches, w.gen)
	case w.events == 0:
		op = syscall.EPOLL_CTL_ADD
		l.watches[w.gen] = w
	}
	w.events = events
	ev := syscall.EpollEvent{Events: events, Fd: w.gen}
	_ = syscall.EpollCtl(l.ep, op, w.fd, &ev) // fails only for a descriptor that is closed: nothing comes from it
}

// after calls fn once, d from now, unless stopped.
func (l *loop) after(d time.Duration, fn func()) *timer {
	t := &timer{at: time.Now().Add(d), fn: fn}
	l.timers = append(l.timers, t)
	return t
}

func (l *loop) stop(t *timer) {
	for i, o := range l.timers {
		if o == t {
			l.timers = append(l.timers[:i], l.timers[i+1:]...)
			return
		}
	}
}

// timeout until the next timer in milliseconds, rounded up; -1 is for ever.
func (l *loop) timeout() int {
	if len(l.timers) == 0 {
		return -1
	}
	next := l.timers[0].at
	for _, t := range l.timers[1:] {
		if t.at.Before(next) {
			next = t.at
		}
	}
	return int(max(0, (time.Until(next)+time.Millisecond-1)/time.Millisecond))
}

// once waits for what comes next and handles it.
func (l *loop) once() {
	n, err := syscall.EpollWait(l.ep, l.events[:], l.timeout())
	if err != nil {
		n = 0
	}
	for _, ev := range l.events[:n] {
		if w := l.watches[ev.Fd]; w != nil {
			w.fn(ev.Events)
		}
	}
	if len(l.timers) == 0 {
		return
	}
	now := time.Now()
	var due []*timer
	for _, t := range l.timers {
		if !t.at.After(now) {
			due = append(due, t)
		}
	}
	for _, t := range due {
		l.stop(t)
		t.fn()
	}
}
