package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Config of New.
type Config struct {
	RunDir string // namespaces are files under RunDir/netns
	Log    *slog.Logger
	Spare  int // namespaces kept ready; 0: 4; negative: none
}

// Links makes namespaces and links in the network namespace that the process
// was in when New was called.
type Links struct {
	cfg    Config
	mark   string
	dir    string
	host   *sock
	pool   pool
	reaper reaper
	mesh   mesh

	closeOnce  sync.Once
	filterOnce sync.Once
	filter     bool // set by filterOnce

	mu       sync.Mutex
	known    map[string]bool     // guarded by mu: names of host-side links that should exist
	remotes  map[string]*remotes // guarded by mu: by bridge
	observed map[int]*remotes    // guarded by mu: by index of the bridge and of the tunnel
	routes   map[string]string   // guarded by mu: what a plug's inside leads to, by name of the host's end
}

var _ overlaynet.Links = (*Links)(nil)

// New opens the socket; it changes nothing.
func New(c Config) (*Links, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Spare == 0:
		c.Spare = 4
	case c.Spare < 0:
		c.Spare = 0
	}
	host, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &Links{
		cfg: c, mark: overlaynet.Mark(c.RunDir), dir: filepath.Join(c.RunDir, "netns"),
		host: host, known: map[string]bool{}, remotes: map[string]*remotes{}, observed: map[int]*remotes{}, routes: map[string]string{},
		pool: pool{want: c.Spare, wake: make(chan struct{}, 1)},
	}, nil
}

// Close closes the socket and drops the spare namespaces.
func (l *Links) Close() error {
	l.pool.drain()
	l.closeOnce.Do(l.host.close) // a second time it would be somebody else's descriptor
	return nil
}

// Writes is how many changes have been asked of the kernel in the host's
// namespace.
func (l *Links) Writes() uint64 { return l.host.writes.Load() }

// index returns the number of a link in s's namespace; 0 when there is none.
func (s *sock) index(name string) int {
	ifr, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(s.fd, unix.SIOCGIFINDEX, ifr) != nil {
		return 0
	}
	return int(ifr.Uint32())
}

func (l *Links) note(name string, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if there {
		l.known[name] = true
	} else {
		delete(l.known, name)
		delete(l.routes, name)
	}
}

// SetSandbox makes the namespace of id with these plugs.
func (l *Links) SetSandbox(ctx context.Context, id string, plugs []overlaynet.Plug) (path string, err error) {
	path = filepath.Join(l.dir, id)
	if late, ok := l.intact(path, plugs); ok {
		return path, l.furnish(path, late)
	}
	sp, fresh, err := l.space(path)
	if err != nil {
		return "", fmt.Errorf("namespace: %w", err)
	}
	defer sp.close()
	defer func() {
		if err != nil && fresh {
			_ = l.RemoveSandbox(context.WithoutCancel(ctx), id, plugs)
		}
	}()
	for _, p := range plugs {
		if err = ctx.Err(); err != nil {
			return "", err
		}
		if !fresh && sp.sock.index(p.Interface) != 0 && l.host.index(p.Host) != 0 {
			l.note(p.Host, true)
			continue // untouched: traffic may be flowing
		}
		if err = l.plug(sp, p); err != nil {
			return "", fmt.Errorf("network %s: %w", p.Segment.Name, err)
		}
	}
	if fresh {
		return path, nil
	}
	late, ok := l.intact(path, plugs) // those that were left untouched
	if !ok {
		return "", fmt.Errorf("%s: something else takes away what was made", id)
	}
	return path, l.furnish(path, late)
}

// intact tells whether everything is there, and puts ports back into their
// bridges, which may be new ones, and up. What is right is only looked at. It
// returns the plugs whose inside lags behind their networks.
func (l *Links) intact(path string, plugs []overlaynet.Plug) (late []overlaynet.Plug, ok bool) {
	if !mounted(path) {
		return nil, false
	}
	var steps []step
	for _, p := range plugs {
		host, master := l.host.link(p.Host), l.host.index(p.Segment.Bridge)
		if host.index == 0 || master == 0 {
			return nil, false
		}
		l.note(p.Host, true)
		port := plugPort(p.Segment.Separate, l.BridgeFilter())
		if host.master != master || !host.up || !host.behaves(port) {
			steps = append(steps, step{"join " + p.Host, joinBridge(host.index, master), nil}, step{"bring up " + p.Host, setPort(p.Host, port), nil},
				step{"settle " + p.Host, settle(p.Host), nil}, step{"settle bridge", settle(p.Segment.Bridge), nil})
		}
		if l.lags(p, host) {
			late = append(late, p)
		}
	}
	return late, l.host.do(steps...) == nil
}

// plug makes one veth pair in its final place.
func (l *Links) plug(sp *space, p overlaynet.Plug) error {
	master := l.host.index(p.Segment.Bridge)
	if master == 0 {
		return fmt.Errorf("bridge %s does not exist", p.Segment.Bridge)
	}
	create, err := newVeth(p, master, sp.fd)
	if err != nil {
		return err
	}
	l.note(p.Host, true)
	steps := []step{
		{"create veth " + p.Host, create, nil},
		{"bring up " + p.Host, setPort(p.Host, plugPort(p.Segment.Separate, l.BridgeFilter())), nil},
	}
	err = l.host.do(steps...)
	if errors.Is(err, unix.EEXIST) { // a half-made one, or one whose other end was moved away
		_ = l.host.do(step{"", delLink(p.Host), nil})
		err = l.host.do(steps...)
	}
	if err != nil {
		l.note(p.Host, false)
		return err
	}
	if err := sp.configure(p); err != nil {
		l.note(p.Host, false)
		_ = l.host.do(step{"", delLink(p.Host), nil}) // or the next call would take it for a whole one
		return err
	}
	l.furnished(p)
	return l.host.do(step{"settle " + p.Host, settle(p.Host), nil}, step{"settle bridge", settle(p.Segment.Bridge), nil})
}

// RemoveSandbox removes the namespace and its links. Removing the host's ends
// at once, rather than waiting for the kernel to tear the namespace down,
// makes the addresses free to use again when it returns.
func (l *Links) RemoveSandbox(_ context.Context, id string, plugs []overlaynet.Plug) error {
	var names []string
	for _, p := range plugs {
		l.note(p.Host, false)
		names = append(names, p.Host)
	}
	return errors.Join(l.remove(names...), unmount(filepath.Join(l.dir, id)))
}

// Unplug takes one plug from a living sandbox.
func (l *Links) Unplug(_ context.Context, _ string, p overlaynet.Plug) error {
	l.note(p.Host, false)
	return l.remove(p.Host)
}

// Reroute sets the default routes of a living sandbox, and adds those to
// virtual addresses that it lacks.
func (l *Links) Reroute(_ context.Context, id string, plugs []overlaynet.Plug) error {
	sp, err := enter(filepath.Join(l.dir, id))
	if err != nil {
		return err
	}
	defer sp.close()
	gone := []unix.Errno{unix.ESRCH, unix.ENOENT}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		for sp.sock.do(step{"remove default route", defaultRoute(0, none, fam, true), nil}) == nil {
		}
	}
	for _, p := range plugs {
		index := sp.sock.index(p.Interface)
		steps := sp.routes(p, index, gone)
		if index != 0 {
			steps = append(steps, sp.addVirtuals(p, index)...)
		}
		if err := sp.sock.do(steps...); err != nil {
			return err
		}
	}
	return nil
}

func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
