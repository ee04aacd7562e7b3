package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

var none netip.Addr

// space is an open namespace with a netlink socket inside.
type space struct {
	fd   int
	sock *sock
}

func (sp *space) close() {
	sp.sock.close()
	unix.Close(sp.fd)
}

// inThread runs f on an operating system thread of its own, which may change
// its namespace: the thread ends with the goroutine and is not used again.
// The process's first thread cannot end, and what others see of the process
// (/proc/PID/net) is seen through it: it is never the one.
func inThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := inThread(f) // on another thread, as this one is taken
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// create makes a namespace: loopback up, IPv6 off until a network wants it,
// and the field's two conveniences (ports below 1024 and ping for everybody).
func create() (sp *space, err error) {
	err = inThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if sp, err = here(); err != nil {
			return err
		}
		for _, kv := range [][2]string{
			{"net/ipv6/conf/default/disable_ipv6", "1"},
			{"net/ipv6/conf/default/accept_ra", "0"},
			{"net/ipv6/conf/default/accept_dad", "0"},
			{"net/ipv4/ip_unprivileged_port_start", "0"},
			{"net/ipv4/ping_group_range", "0 2147483647"},
		} {
			if err := writeSysctl(kv[0], kv[1]); err != nil {
				return err
			}
		}
		return sp.sock.do(step{"bring up lo", upLink(1), nil})
	})
	if err != nil && sp != nil {
		sp.close()
	}
	return sp, err
}

// here opens the thread's namespace.
func here() (*space, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &space{fd: fd, sock: s}, nil
}

// enter opens the namespace mounted at path.
func enter(path string) (sp *space, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	err = inThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", path, err)
		}
		sp, err = here()
		return err
	})
	return sp, err
}

// mounted tells whether a namespace is mounted at path.
func mounted(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// space opens the namespace at path, or takes a new one and mounts it there.
func (l *Links) space(path string) (sp *space, fresh bool, err error) {
	if mounted(path) {
		sp, err := enter(path)
		return sp, false, err
	}
	if sp = l.pool.take(); sp == nil {
		if sp, err = create(); err != nil {
			return nil, false, err
		}
	}
	if err := bind(sp.fd, path); err != nil {
		sp.close()
		return nil, false, err
	}
	return sp, true, nil
}

func bind(fd int, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	}
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("mount %s: %w", path, err)
	}
	return nil
}

// configure gives the inner end its addresses, routes and sysctls.
func (sp *space) configure(p overlaynet.Plug) error {
	index := sp.sock.index(p.Interface)
	if index == 0 {
		return fmt.Errorf("interface %s did not appear", p.Interface)
	}
	sys := map[string]string{}
	for _, a := range p.Addrs {
		if a.Addr().Is6() {
			sys["net.ipv6.conf."+p.Interface+".disable_ipv6"] = "0"
		}
	}
	if err := sp.writeSysctls(p.Interface, sys); err != nil {
		return err
	}
	steps := []step{{"bring up " + p.Interface, upLink(index), nil}}
	for _, a := range p.Addrs {
		steps = append(steps, step{"add address " + a.String(), address(index, a, false), nil})
	}
	steps = append(append(steps, sp.routes(p, index, nil)...), sp.addVirtuals(p, index)...)
	if err := sp.sock.do(steps...); err != nil {
		return err
	}
	return sp.writeSysctls(p.Interface, p.Sysctls)
}

func (sp *space) routes(p overlaynet.Plug, index int, ignore []unix.Errno) (steps []step) {
	for _, gw := range []netip.Addr{p.Gateway4, p.Gateway6} {
		if gw.IsValid() {
			steps = append(steps, step{"add default route " + gw.String(), defaultRoute(index, gw, family(gw), false), ignore})
		}
	}
	return steps
}

// writeSysctls writes "net.ipv4.x" keys in the namespace. The name of the
// interface may have dots of its own. Other keys than those of the network are
// the whole machine's.
func (sp *space) writeSysctls(iface string, kv map[string]string) error {
	if len(kv) == 0 {
		return nil
	}
	return inThread(func() error {
		if err := unix.Setns(sp.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		for k, v := range kv {
			if !strings.HasPrefix(k, "net.") {
				return fmt.Errorf("sysctl %s is not one of a network: its name must begin with net", k)
			}
			path := strings.ReplaceAll(k, ".", "/")
			path = strings.Replace(path, "/"+strings.ReplaceAll(iface, ".", "/")+"/", "/"+iface+"/", 1)
			if err := writeSysctl(path, v); err != nil {
				return fmt.Errorf("sysctl %s: %w", k, err)
			}
		}
		return nil
	})
}

// writeSysctl writes a key with slashes, in the thread's namespace. A kernel
// without IPv6 has no such keys: that is not an error.
func writeSysctl(key, value string) error {
	err := os.WriteFile("/proc/sys/"+key, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(key, "net/ipv6/") {
		return nil
	}
	return err
}

// pool keeps spare namespaces as open descriptors.
type pool struct {
	want int
	wake chan struct{}

	mu    sync.Mutex
	free  []*space // guarded by mu
	stops bool     // guarded by mu: nothing is added any more
}

func (p *pool) take() *space {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if n := len(p.free); n > 0 {
		sp := p.free[n-1]
		p.free = p.free[:n-1]
		return sp
	}
	return nil
}

// fill makes one spare namespace; false when there are enough.
func (p *pool) fill() (bool, error) {
	p.mu.Lock()
	enough := p.stops || len(p.free) >= p.want
	p.mu.Unlock()
	if enough {
		return false, nil
	}
	sp, err := create()
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stops {
		sp.close()
		return false, nil
	}
	p.free = append(p.free, sp)
	return true, nil
}

func (p *pool) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = true
	for _, sp := range p.free {
		sp.close()
	}
	p.free = nil
}
