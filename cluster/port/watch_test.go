package port

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/stack"
)

// TestAVanishedMachineDoesNotHang: two processes in network namespaces; the
// packets of one are dropped while a request is under way on a connection that
// was used before. It runs for about 12 s.
func TestAVanishedMachineDoesNotHang(t *testing.T) {
	switch os.Getenv("PORT_TEST_ROLE") {
	case "server":
		vanishServer(t)
		return
	case "client":
		vanishClient(t)
		return
	}
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	a, b := fmt.Sprintf("dhwA%d", os.Getpid()), fmt.Sprintf("dhwB%d", os.Getpid())
	for _, ns := range []string{a, b} {
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	ip(t, "-n", a, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", b)
	for i, ns := range []string{a, b} {
		ip(t, "-n", ns, "addr", "add", fmt.Sprintf("10.99.0.%d/24", i+1), "dev", "v0")
		ip(t, "-n", ns, "link", "set", "v0", "up")
	}
	dir := t.TempDir()
	vanishIdentities(t, dir)
	server, _ := child(t, b, "server", dir)
	if line := <-server; line != "up" {
		t.Fatalf("server: %s", line)
	}
	client, _ := child(t, a, "client", dir)
	if line := <-client; line != "asked" {
		t.Fatalf("client: %s", line)
	}
	cmd := exec.Command("nsenter", "--net=/run/netns/"+b, "nft", "add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	begin := time.Now()
	select {
	case line := <-client:
		if !strings.HasPrefix(line, "ended") || time.Since(begin) < 3*time.Second {
			t.Fatalf("after %s: %s", time.Since(begin), line)
		}
		t.Logf("after %s: %s", time.Since(begin).Round(100*time.Millisecond), line)
	case <-time.After(2 * time.Minute):
		t.Fatal("the client hangs")
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// child runs this test in a namespace in another role; its lines that begin with ":" come back.
func child(t *testing.T, ns, role, dir string) (<-chan string, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command("nsenter", "--net=/run/netns/"+ns, os.Args[0], "-test.run=^TestAVanishedMachineDoesNotHang$")
	cmd.Env = append(os.Environ(), "PORT_TEST_ROLE="+role, "PORT_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			if line, ok := strings.CutPrefix(in.Text(), ":"); ok {
				lines <- line
			} else {
				t.Logf("%s: %s", role, in.Text())
			}
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-done; cmd.Wait() })
	return lines, cmd
}

func vanishIdentities(t *testing.T, dir string) {
	ca, err := identity.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"server", "client"} {
		s, err := identity.OpenStore(filepath.Join(dir, id))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := s.NewCSR()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Sign(csr, identity.Peer{Node: id, Cluster: "c1", Role: stack.RoleManager}, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Install(cert, ca.Roots); err != nil {
			t.Fatal(err)
		}
	}
}

type oneAddr string

func (a oneAddr) Addr(string) (string, error) { return string(a), nil }

func vanishPort(t *testing.T, id string) *Port {
	s, err := identity.OpenStore(filepath.Join(os.Getenv("PORT_TEST_DIR"), id))
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{Node: id, Identity: s, Book: oneAddr("10.99.0.2:2377")})
	t.Cleanup(func() { p.Close() })
	return p
}

func vanishServer(t *testing.T) {
	p := vanishPort(t, "server")
	p.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	if err := p.Listen("10.99.0.2:2377"); err != nil {
		t.Fatal(err)
	}
	fmt.Println(":up")
	<-t.Context().Done() // killed before
}

func vanishClient(t *testing.T) {
	c := vanishPort(t, "client").HTTPClient("server")
	if _, err := get(t.Context(), c, "http://server/"); err != nil {
		t.Fatal(err)
	}
	fmt.Println(":asked")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for { // the same connection, until no answer comes
		if _, err := get(ctx, c, "http://server/"); err != nil {
			fmt.Println(":ended", errors.Is(err, context.DeadlineExceeded), err)
			return
		}
	}
}
