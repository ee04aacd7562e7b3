package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// upgrade sends a request that asks for a stream and reads the answer's head.
func (w *world) upgrade(t *testing.T, path, body string) (*net.UnixConn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn := w.dial(t)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, br, resp
}

func (w *world) create(t *testing.T, name string, spec stack.ContainerSpec) {
	t.Helper()
	spec.Image = "busybox"
	if _, _, err := w.engine.Create(context.Background(), name, spec); err != nil {
		t.Fatal(err)
	}
}

func (w *world) mustStart(t *testing.T, name string) {
	t.Helper()
	if err := w.engine.Start(context.Background(), name); err != nil {
		t.Fatal(err)
	}
}

func TestAttachHalfClose(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{Command: []string{"cat"}, OpenStdin: true, StdinOnce: true})
	conn, br, resp := w.upgrade(t, "/v1.51/containers/c/attach?stream=1&stdin=1&stdout=1&stderr=1", "{}")
	if resp.StatusCode != 101 || resp.Header.Get("Content-Type") != multiplexedStream || resp.Header.Get("Upgrade") != "tcp" {
		t.Fatalf("answer %s %v", resp.Status, resp.Header)
	}
	w.mustStart(t, "c")
	_, _ = io.WriteString(conn, "hello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, br); err != nil {
		t.Fatal(err)
	}
	if out.String() != "hello" || errs.String() != "bye\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}

func TestAttachBeforeStartSeesTheFirstByte(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		name := fmt.Sprintf("c%d", i)
		w.create(t, name, stack.ContainerSpec{Command: []string{"echo", "first"}, AutoRemove: true})
		conn, br, resp := w.upgrade(t, "/v1.51/containers/"+name+"/attach?stream=1&stdout=1&stderr=1", "")
		if resp.StatusCode != 101 {
			t.Fatalf("answer %s", resp.Status)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.mustStart(t, name)
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, br); err != nil || out.String() != "first\n" {
			t.Fatalf("%s: %q, %v", name, out.String(), err)
		}
	}
}

func TestAttachWithoutUpgradeAnswers200(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{Command: []string{"echo", "x"}, TTY: true})
	conn := w.dial(t)
	_, _ = io.WriteString(conn, "POST /containers/c/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
	br := bufio.NewReader(conn)
	line, err := br.ReadString('\n')
	if err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	w.mustStart(t, "c")
	rest, err := io.ReadAll(br)
	if err != nil || !strings.HasSuffix(string(rest), "\r\n\r\nx\n") || !strings.Contains(string(rest), rawStream) {
		t.Errorf("%q, %v", rest, err)
	}
}

// A client that sends what the process never reads gets all output and a clean end, not a reset.
func TestUnreadInputEndsCleanly(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		name := fmt.Sprintf("c%d", i)
		w.create(t, name, stack.ContainerSpec{Command: []string{"echo", "first"}, OpenStdin: true, TTY: i%2 == 0})
		conn, br, _ := w.upgrade(t, "/v1.51/containers/"+name+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "")
		_, _ = io.WriteString(conn, strings.Repeat("nobody reads this\n", 100))
		w.mustStart(t, name)
		if out, err := io.ReadAll(br); err != nil || !strings.Contains(string(out), "first\n") {
			t.Fatalf("%s: %q, %v", name, out, err)
		}
		_ = conn.Close()
	}
}

func TestAttachNoticesThatTheClientHasGone(t *testing.T) {
	for _, half := range []bool{false, true} {
		w := newWorld(t)
		left := make(chan struct{})
		w.create(t, "c", stack.ContainerSpec{Command: []string{"sleep"}})
		w.mustStart(t, "c")
		w.engine.onAttach = func(s *runtime.Streams) {
			closer := s.Close
			s.Close = func() error { close(left); return closer() }
		}
		conn, _, resp := w.upgrade(t, "/containers/c/attach?stream=1&stdout=1&stderr=1", "")
		if resp.StatusCode != 101 {
			t.Fatalf("answer %s", resp.Status)
		}
		if half {
			_ = conn.CloseWrite()
		}
		_ = conn.Close()
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Fatalf("half close first: %v: the streams stay open", half)
		}
	}
}

func TestDetachKeysLeave(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{Command: []string{"cat"}, OpenStdin: true, TTY: true})
	w.mustStart(t, "c")
	conn, br, _ := w.upgrade(t, "/containers/c/attach?stream=1&stdin=1&stdout=1&detachKeys=a,ctrl-b", "")
	_, _ = io.WriteString(conn, "xay")
	got := make([]byte, 3)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "xay" {
		t.Fatalf("%q, %v", got, err)
	}
	_, _ = io.WriteString(conn, "a\x02")
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("after the keys: %q, %v", rest, err)
	}
	if c, _ := w.engine.Inspect(context.Background(), "c"); c.State.Status != runtime.Running {
		t.Errorf("the container is %s", c.State.Status)
	}
}

func TestExecExitCodeIsFinalWhenTheStreamEnds(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{Command: []string{"sleep"}})
	w.mustStart(t, "c")
	var made struct{ ID string }
	w.post(t, "/containers/c/exec", `{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true,"AttachStderr":true}`, 201, &made)
	conn, br, resp := w.upgrade(t, "/exec/"+made.ID+"/start", `{"Detach":false,"Tty":false}`)
	if resp.StatusCode != 101 {
		t.Fatalf("answer %s", resp.Status)
	}
	_, _ = io.WriteString(conn, "in")
	_ = conn.CloseWrite()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, br); err != nil || out.String() != "in" || errs.String() != "bye\n" {
		t.Fatalf("stdout %q, stderr %q, %v", out.String(), errs.String(), err)
	}
	var st struct {
		Running  bool
		ExitCode *int
	}
	w.get(t, "/exec/"+made.ID+"/json", 200, &st)
	if st.Running || st.ExitCode == nil || *st.ExitCode != 0 {
		t.Errorf("%+v", st)
	}
	w.post(t, "/exec/"+made.ID+"/start", `{}`, 409, nil)
	w.post(t, "/exec/none/start", `{}`, 404, nil)
}

func TestWaitAnswersItsHeadersAtOnce(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{Command: []string{"sh", "-c", "exit 3"}})
	resp, err := w.client().Post("http://d/containers/c/wait?condition=next-exit", "", nil)
	if err != nil { // returns with the headers: the container has not been started
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.mustStart(t, "c")
	var st struct{ StatusCode int }
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || st.StatusCode != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	w.post(t, "/containers/c/wait?condition=never", "", 400, nil)
	w.post(t, "/containers/none/wait", "", 404, nil)
}

func TestEventsFlushAtOnce(t *testing.T) {
	w := newWorld(t)
	resp, err := w.client().Get(`http://d/events?filters={"event":["create","exec_create"],"type":{"container":true}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.create(t, "c", stack.ContainerSpec{Command: []string{"sleep"}, Labels: map[string]string{"l": "1"}})
	dec := json.NewDecoder(resp.Body)
	var e map[string]any
	if err := dec.Decode(&e); err != nil {
		t.Fatal(err)
	}
	if e["status"] != "create" || e["Action"] != "create" || e["from"] != "busybox" || e["scope"] != "local" || e["id"] == "" {
		t.Errorf("%v", e)
	}
	w.mustStart(t, "c")
	if _, err := w.engine.ExecCreate(context.Background(), "c", runtime.ExecSpec{Args: []string{"ls", "-l"}}); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&e); err != nil || e["Action"] != "exec_create: ls -l" {
		t.Errorf("%v, %v", e, err)
	}
}

func TestEventsUntilNowEnd(t *testing.T) {
	w := newWorld(t)
	w.create(t, "c", stack.ContainerSpec{})
	resp, err := w.client().Get(fmt.Sprintf("http://d/events?since=1&until=%d", time.Now().Unix()+1))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || strings.Count(string(data), "\n") != 1 {
		t.Errorf("%s, %v", data, err)
	}
}
