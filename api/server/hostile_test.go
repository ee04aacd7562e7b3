package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A node that has been taken over must not take down the one that asks it: what
// it answers with is bounded.
func TestANodesAnswersAreBounded(t *testing.T) {
	sent := make(chan int64, 64)
	evil := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		var n int64
		defer func() { sent <- n }()
		write := func(format string, args ...any) error {
			m, err := fmt.Fprintf(conn, format, args...)
			n += int64(m)
			return err
		}
		if r.Method == http.MethodPost { // an exec: a header without end
			_, _ = io.ReadAll(io.LimitReader(rw, r.ContentLength))
			err = write("HTTP/1.1 200 OK\r\n")
			for i := 0; err == nil && n < 16<<20; i++ {
				err = write("X-%d: %s\r\n", i, strings.Repeat("x", 1000))
			}
			return
		}
		err = write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
		for err == nil && n < 4*maxAnswer {
			err = write("%s", strings.Repeat(" ", 1<<20))
		}
	}))
	evil.StartTLS()
	t.Cleanup(evil.Close)
	f := newFleet(t, 3)
	f.nodes[1].port = evil.Listener.Addr().String()

	resp, body := f.nodes[0].ask(t, "GET", "/containers/json?all=1&nodes=all", "")
	if resp.StatusCode != 200 || resp.Header.Get("Dhow-Missing") == "" {
		t.Errorf("a list: %s %.80s %v", resp.Status, body, resp.Header)
	}
	if n := <-sent; n > 2*maxAnswer {
		t.Errorf("a list: it could send %d MiB", n>>20)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://x/exec/0123/start", strings.NewReader("{}"))
	req.Header.Set("Dhow-Node", "node2")
	resp, err := f.nodes[0].client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 500 {
		t.Errorf("an exec: %s", resp.Status)
	}
	if n := <-sent; n > 8<<20 { // what lay in the sockets counts
		t.Errorf("an exec: it could send %d KiB of a header", n>>10)
	}
}
