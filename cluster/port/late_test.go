package port

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/stack"
)

// What could not be delivered before it was given up is not delivered later: a
// command that its user was told has failed would be carried out after the next.
func TestWhatIsGivenUpIsNotDelivered(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	w := newWorld(t)
	var came atomic.Int32
	server := w.add("server", stack.RoleManager)
	server.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came.Add(1)
		io.Copy(w, r.Body)
	}))
	client := w.add("client", stack.RoleManager).HTTPClient("server")
	must := func(ctx context.Context) {
		t.Helper()
		if _, err := get(ctx, client, "http://server/"); err != nil {
			t.Fatal(err)
		}
	}
	must(t.Context())
	nft := func(args string) {
		t.Helper()
		if out, err := exec.Command("nft", args).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", args, err, out)
		}
	}
	nft("add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // it is sent again meanwhile
	defer cancel()
	if _, err := get(ctx, client, "http://server/"); err == nil {
		t.Fatal("there was an answer")
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		left := sending(t, server.Addr().(*net.TCPAddr).Port)
		if left == "" {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("still sent:\n%s", left)
		}
	}
	nft("delete table inet t")
	must(t.Context())
	if n := came.Load(); n != 2 {
		t.Errorf("%d requests came, want 2", n)
	}
}

// sending are the connections to a port with data that nobody has acknowledged.
func sending(t *testing.T, port int) (left string) {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) && !strings.HasPrefix(f[4], "00000000:") {
			left += line
		}
	}
	return left
}
