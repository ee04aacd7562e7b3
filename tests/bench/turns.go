package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/tests/netlab"
)

// turns are two ways to do one thing, measured by many short turns, and the
// first of them once more: what that differs from itself is what the machine adds.
type turns struct{ first, second, again samples }

// byTurns takes n samples of each way; the order is turned round each time, so
// that nobody is always the one who comes after another.
func byTurns(n int, first, second func() time.Duration) turns {
	var t turns
	order := []func(){
		func() { t.first = append(t.first, first()) },
		func() { t.second = append(t.second, second()) },
		func() { t.again = append(t.again, first()) },
	}
	for range n {
		for _, f := range order {
			f()
		}
		slices.Reverse(order)
	}
	return t
}

// against are the ratios of the samples of b to those of a that were taken
// beside them, in order.
func against(a, b samples) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = float64(b[i]) / float64(a[i])
	}
	slices.Sort(out)
	return out
}

// turns adds a line for the second way, whose budget is a multiple of the
// first one's time: the median of the ratios of neighbours counts.
func (r *report) turns(what string, t turns, name string, limit float64) {
	ratios, noise := against(t.first, t.second), against(t.first, t.again)
	n := len(ratios)
	l := line{what: what, dhow: t.second.String(), peer: t.first.String() + " " + name, ratio: ratios[n/2], budget: budgetOf(limit, name)}
	l.met = verdict(l.ratio <= limit)
	r.lines = append(r.lines, l)
	r.note("  middle half of the ratios", fmt.Sprintf("%.3f to %.3f, median %.3f", ratios[n/4], ratios[3*n/4], ratios[n/2]))
	r.note("  "+name+" beside itself", fmt.Sprintf("%.3f to %.3f, median %.3f", noise[n/4], noise[3*n/4], noise[n/2]))
}

const (
	exchanges = 100 // requests of one turn, on a connection of their own
	setups    = 30  // connections of one turn
)

var (
	question  = []byte("HEAD / HTTP/1.1\r\nHost: bench\r\n\r\n")
	answerEnd = []byte("\r\n\r\n")
)

// exchange is the median time of a request to a web server on one connection.
// A turn has one of its own, so that no side keeps the server's process, and
// with it the processor, that it happened to get.
func (p place) exchange(addr string) time.Duration {
	p.b.Helper()
	return p.inside(func() (out samples, err error) {
		s, err := dialed(addr)
		if err != nil {
			return nil, err
		}
		defer s.close()
		for i := range exchanges {
			start := time.Now()
			if err := s.ask(); err != nil {
				return nil, err
			}
			if i >= exchanges/10 {
				out = append(out, time.Since(start))
			}
		}
		return out, nil
	})
}

// setup is the median time to make a connection, ask once and be answered.
func (p place) setup(addr string) time.Duration {
	p.b.Helper()
	return p.inside(func() (out samples, err error) {
		for range setups {
			start := time.Now()
			s, err := dialed(addr)
			if err != nil {
				return nil, err
			}
			err = s.ask()
			out = append(out, time.Since(start))
			if s.close(); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}

func (p place) inside(f func() (samples, error)) time.Duration {
	p.b.Helper()
	var out samples
	if err := netlab.Inside(p.ns, func() (err error) {
		if err = pinned(0); err == nil {
			out, err = f()
		}
		return err
	}); err != nil {
		p.b.Fatal(err)
	}
	return out.median()
}

// pinned keeps a thread, 0 is the caller's own, on the first processor. Whether
// two ends share one decides by half how long an answer takes, and changes all
// the time; on one there is nothing but the way itself to be measured.
func pinned(id int) error {
	var first unix.CPUSet
	first.Set(0)
	if err := unix.SchedSetaffinity(id, &first); err != nil {
		return fmt.Errorf("keep thread %d on one processor: %w", id, err)
	}
	return nil
}

// pin keeps all processes of the place on the first processor.
func (p place) pin() {
	p.b.Helper()
	own, err := os.Stat(p.ns)
	if err != nil {
		p.b.Fatal(err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		its, err := os.Stat(dir + "/ns/net")
		if err != nil || !os.SameFile(own, its) {
			continue // of another place, or ended
		}
		id, err := strconv.Atoi(filepath.Base(dir))
		if err == nil {
			err = pinned(id)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			p.b.Fatal(err)
		}
	}
}

// socket is used by calls that block: the way of Go's runtime to wait costs
// more than what is to be measured.
type socket int

// dialed connects to "address:port".
func dialed(addr string) (socket, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	s, limit := socket(fd), unix.Timeval{Sec: 5}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		// It ends with a reset, so that no port waits to be used again.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err != nil {
		s.close()
		return -1, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return s, nil
}

func (s socket) close() { _ = unix.Close(int(s)) }

// ask sends the question and reads until the answer's end.
func (s socket) ask() error {
	if _, err := unix.Write(int(s), question); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	buf := make([]byte, 4096)
	for n := 0; ; {
		got, err := unix.Read(int(s), buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read the answer: %w", err)
		case got == 0:
			return errors.New("read the answer: it ends too early")
		}
		if n += got; bytes.HasSuffix(buf[:n], answerEnd) {
			return nil
		}
	}
}
