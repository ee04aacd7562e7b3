package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/stack"
)

// TestPortsOfForeignProcessesAreNamed: a process that is none of ours has a
// port; what this process holds is its own business.
func TestPortsOfForeignProcessesAreNamed(t *testing.T) {
	if os.Getenv("DHOW_TEST_LISTENS") != "" {
		l, err := net.Listen("tcp4", "127.0.0.1:8090")
		nettest.Must(t, err)
		defer l.Close()
		fmt.Println("listening")
		os.Stdin.Read(make([]byte, 1)) // until the other one ends
		return
	}
	if !nettest.InHost(t) {
		return
	}
	other := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	other.Env = append(os.Environ(), "DHOW_TEST_LISTENS=1")
	in, err := other.StdinPipe()
	nettest.Must(t, err)
	out, err := other.StdoutPipe()
	nettest.Must(t, err)
	nettest.Must(t, other.Start())
	defer other.Wait() //nolint:errcheck // it ends with its input
	defer in.Close()
	if n, err := out.Read(make([]byte, 9)); err != nil || n == 0 {
		t.Fatalf("the other process says nothing: %v", err)
	}
	own, err := net.Listen("tcp", "127.0.0.1:8091")
	nettest.Must(t, err)
	defer own.Close()
	ports := lb.NewPorts(slog.New(slog.DiscardHandler))
	got := portsTaken(ports, []stack.Port{{HostPort: 8090}, {HostPort: 8090, HostIP: "127.0.0.2"}, {HostPort: 8091}, {HostPort: 8092, Protocol: "udp"}, {HostPort: 8093}})
	if len(got) != 1 || !strings.Contains(got[0], "8090/tcp is in use by process") || !strings.Contains(got[0], fmt.Sprintf("(pid %d)", other.Process.Pid)) {
		t.Errorf("got %q; want port 8090 with the process that has it", got)
	}
	if l, err := net.Listen("tcp", ":8093"); err != nil {
		t.Errorf("a port that was asked for is held: %v", err)
	} else {
		l.Close()
	}
}
