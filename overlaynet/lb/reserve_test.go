package lb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// Whoever holds a port, in whatever way, is named; what does not collide is
// given.
func TestHoldersAreNamed(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	nettest.Outside(t) // addresses 192.0.2.1 and 2001:db8::1
	ports := lb.NewPorts(nil)
	for _, c := range []struct{ held, want string }{
		// held by another           what we want and whether it collides
		{"tcp4 0.0.0.0:80", "0.0.0.0:80 taken"},
		{"tcp4 0.0.0.0:80", "127.0.0.1:80 taken"},
		{"tcp4 0.0.0.0:80", "[::]:80 free"},
		{"tcp4 127.0.0.1:80", "0.0.0.0:80 taken"},
		{"tcp4 127.0.0.1:80", "127.0.0.1:80 taken"},
		{"tcp4 127.0.0.1:80", "192.0.2.1:80 free"},
		{"tcp4 127.0.0.1:80", "[::1]:80 free"},
		{"tcp [::]:80", "0.0.0.0:80 taken"}, // a socket of both families
		{"tcp [::]:80", "[::]:80 taken"},
		{"tcp [::]:80", "192.0.2.1:80 taken"},
		{"tcp6 [2001:db8::1]:80", "[::]:80 taken"},
		{"tcp6 [2001:db8::1]:80", "[2001:db8::1]:80 taken"},
		{"tcp6 [2001:db8::1]:80", "[::1]:80 free"},
		{"tcp6 [2001:db8::1]:80", "0.0.0.0:80 free"},
		{"tcp4 0.0.0.0:81", "0.0.0.0:80 free"},
		{"udp4 0.0.0.0:80", "0.0.0.0:80 free"}, // tcp is wanted
	} {
		for _, proto := range []string{"tcp", "udp"} {
			network, addr, _ := strings.Cut(c.held, " ")
			if proto == "udp" { // the same with both protocols swapped
				network = strings.NewReplacer("tcp", "udp", "udp", "tcp").Replace(network)
			}
			want, outcome, _ := strings.Cut(c.want, " ")
			name := fmt.Sprintf("%s %s held, %s/%s wanted", network, addr, want, proto)
			release := hold(t, network, addr)
			r, err := ports.Reserve(front(proto, want))
			release()
			var taken *overlaynet.PortTaken
			switch {
			case outcome == "free" && err != nil:
				t.Errorf("%s: %v", name, err)
			case outcome == "taken" && (!errors.As(err, &taken) || !strings.HasSuffix(taken.Holder, fmt.Sprintf(" (pid %d)", os.Getpid())) || !strings.HasPrefix(taken.Holder, "process ")):
				t.Errorf("%s: got %v", name, err)
			}
			if r != nil {
				r.Close()
			}
		}
	}
}

func hold(t testing.TB, network, addr string) (release func()) {
	t.Helper()
	if strings.HasPrefix(network, "tcp") {
		ln, err := net.Listen(network, addr)
		nettest.Must(t, err)
		return func() { ln.Close() }
	}
	pc, err := net.ListenPacket(network, addr)
	nettest.Must(t, err)
	return func() { pc.Close() }
}

// Another program is named by its name.
func TestForeignProgramIsNamed(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-c", "import socket,sys\ns=socket.socket()\ns.bind(('',8080))\ns.listen()\nprint('up',flush=True)\nsys.stdin.read()")
	in, err := cmd.StdinPipe()
	nettest.Must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	nettest.Must(t, err)
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	if _, err := out.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	_, err = lb.NewPorts(nil).Reserve(front("tcp", "0.0.0.0:8080"))
	if want := fmt.Sprintf("port 0.0.0.0:8080/tcp is in use by process python3 (pid %d)", cmd.Process.Pid); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
