package engine

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// oomSource wakes who wants to know that the kernel has killed a process of a
// container for want of memory. A kill of a child does not end the container,
// so the shim, which counts kills at the end, says nothing of it.
//
// cgroup v2 tells through inotify on memory.events, of which one instance
// serves all containers (their number per user is small); cgroup v1 through an
// eventfd per container. Nothing is polled.
type oomSource struct {
	v2  bool
	mu  sync.Mutex
	in  *os.File                  // inotify; nil until first needed; guarded by mu
	out map[int32]chan<- struct{} // by inotify watch; guarded by mu
}

// oomFile is the file that counts the kills.
func oomFile(dir string, v2 bool) string {
	if v2 {
		return filepath.Join(dir, "memory.events")
	}
	return filepath.Join(dir, "memory.oom_control")
}

// watch returns a channel that gets a value after the counter in dir may have
// grown, and a function that ends it.
func (o *oomSource) watch(dir string) (<-chan struct{}, func(), error) {
	if o.v2 {
		return o.watchV2(dir)
	}
	return watchV1(dir)
}

func watchV1(dir string) (<-chan struct{}, func(), error) {
	control, err := os.Open(oomFile(dir, false))
	if err != nil {
		return nil, nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("eventfd: %w", err)
	}
	event := os.NewFile(uintptr(fd), "oom")
	order := fmt.Sprintf("%d %d", fd, control.Fd())
	if err := os.WriteFile(filepath.Join(dir, "cgroup.event_control"), []byte(order), 0); err != nil {
		event.Close()
		return nil, nil, err
	}
	wake, quit := make(chan struct{}, 1), make(chan struct{})
	go func() { // ends when event is closed
		b := make([]byte, 8)
		for {
			if _, err := event.Read(b); err != nil {
				return
			}
			pokeUntilKilled(wake, quit)
		}
	}()
	return wake, func() { close(quit); event.Close() }, nil
}

// pokeUntilKilled wakes several times in two seconds: cgroup v1 tells that
// there is no memory left, which is before it kills and counts.
func pokeUntilKilled(wake chan<- struct{}, quit <-chan struct{}) {
	for d := 2 * time.Millisecond; d < 2*time.Second; d *= 4 {
		poke(wake)
		select {
		case <-time.After(d):
		case <-quit:
			return
		}
	}
	poke(wake)
}

func (o *oomSource) watchV2(dir string) (<-chan struct{}, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.in == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, nil, fmt.Errorf("inotify: %w", err)
		}
		o.in, o.out = os.NewFile(uintptr(fd), "oom"), map[int32]chan<- struct{}{}
		go o.read(o.in)
	}
	conn, err := o.in.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var wd int
	var added error
	if err := conn.Control(func(fd uintptr) { wd, added = unix.InotifyAddWatch(int(fd), oomFile(dir, true), unix.IN_MODIFY) }); err != nil {
		return nil, nil, err
	}
	if added != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", dir, added)
	}
	wake := make(chan struct{}, 1)
	o.out[int32(wd)] = wake
	return wake, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.out, int32(wd))
		_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) }) // gone with its group
	}, nil
}

// read wakes those whose file has changed, until the instance is closed.
func (o *oomSource) read(in *os.File) {
	b := make([]byte, 64*unix.SizeofInotifyEvent)
	for {
		n, err := in.Read(b)
		if err != nil {
			return
		}
		o.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= n; at += unix.SizeofInotifyEvent { // a file's events carry no name
			if wake := o.out[int32(binary.NativeEndian.Uint32(b[at:]))]; wake != nil {
				poke(wake)
			}
		}
		o.mu.Unlock()
	}
}

// close ends the reader of cgroup v2.
func (o *oomSource) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.in != nil {
		o.in.Close()
	}
}

func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// watchOOM wakes the watcher of a run when its container has lost a process
// for want of memory; the channel is nil where nothing can be told live.
func (e *Engine) watchOOM(c *container) (<-chan struct{}, func()) {
	c.mu.Lock()
	path := e.cgroupPath(c.rec)
	c.mu.Unlock()
	for _, dir := range e.cgroupDirs(path, "memory") {
		wake, end, err := e.oom.watch(dir)
		if err == nil {
			return wake, end
		}
		if !os.IsNotExist(err) { // it has ended already
			e.log.Debug("no live oom events", "container", c.name(), "err", err)
		}
	}
	return nil, func() {}
}

// oomKills counts the processes of a container that were killed so far.
func (e *Engine) oomKills(c *container) uint64 {
	c.mu.Lock()
	path := e.cgroupPath(c.rec)
	c.mu.Unlock()
	for _, dir := range e.cgroupDirs(path, "memory") {
		return table(oomFile(dir, e.facts.CgroupV2))["oom_kill"]
	}
	return 0
}

// tellOOM publishes kills that have not been told yet. Only the watcher of r calls it.
func (e *Engine) tellOOM(c *container, r *run) {
	if n := e.oomKills(c); n > r.oomKills {
		r.oomKills = n
		e.publish(c, "oom")
	}
}
