package nettest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// In runs f in the namespace at path; "" is the host's.
func In(t testing.TB, path string, f func() error) error {
	t.Helper()
	if path == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }() // also when f calls t.Fatal
		goruntime.LockOSThread()       // the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			err = In(t, path, f) // but the first cannot end
			goruntime.UnlockOSThread()
			return
		}
		var h netns.NsHandle
		if h, err = netns.GetFromPath(path); err != nil {
			return
		}
		err = netns.Set(h)
		h.Close()
		if err == nil {
			ended := true // by t.Fatal
			defer func() {
				if ended {
					err = errors.New("the test ended inside the namespace")
				}
			}()
			err = f()
			ended = false
		}
	}()
	return <-done
}

// Serve answers every TCP connection or UDP datagram on the port in the
// namespace with NAME REMOTE-ADDRESS.
func Serve(t testing.TB, path, name, network, addr string) {
	t.Helper()
	if !strings.HasPrefix(network, "udp") {
		Accept(t, path, network, addr, func(c net.Conn) {
			fmt.Fprintf(c, "%s %s\n", name, hostOf(c.RemoteAddr()))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
		return
	}
	Must(t, In(t, path, func() error {
		pc, err := net.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { pc.Close() })
		go func() {
			buf := make([]byte, 2048)
			for {
				_, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = pc.WriteTo([]byte(name+" "+hostOf(from)+"\n"), from)
			}
		}()
		return nil
	}))
}

func hostOf(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return h
}

// Ask connects from the namespace and returns what the server says. It has the
// time in which the kernel repeats what is lost in the first moments of an
// interface: a neighbour solicitation or a SYN after one second, again after two.
func Ask(t testing.TB, path, network, addr string) (string, error) {
	t.Helper()
	return askWithin(t, 5*time.Second, path, network, addr)
}

func askWithin(t testing.TB, patience time.Duration, path, network, addr string) (string, error) {
	t.Helper()
	var line string
	err := In(t, path, func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if strings.HasPrefix(network, "udp") {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		line, err = bufio.NewReader(c).ReadString('\n')
		line = strings.TrimSpace(line)
		return err
	})
	return line, err
}

// WantAsk asks and wants this answer.
func WantAsk(t testing.TB, what, path, network, addr, want string) {
	t.Helper()
	got, err := Ask(t, path, network, addr)
	if err != nil || got != want {
		t.Errorf("%s: %s %s: got %q, %v; want %q", what, network, addr, got, err, want)
	}
}

// WantNone is WantAsk for what must not be reached.
func WantNone(t testing.TB, what, path, network, addr string) {
	t.Helper()
	if got, err := askWithin(t, 250*time.Millisecond, path, network, addr); err == nil {
		t.Errorf("%s: %s %s answered %q; want nothing", what, network, addr, got)
	}
}
