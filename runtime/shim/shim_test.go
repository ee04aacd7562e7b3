package shim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/runtime/shim/logs"
)

func readLog(t testing.TB, c shim.Config) string {
	t.Helper()
	var b strings.Builder
	err := logs.Read(context.Background(), c.Log.Path, runtime.LogOptions{Stdout: true, Stderr: true, Tail: -1}, func(e runtime.LogEntry) error {
		b.WriteString(e.Stream + ":" + string(e.Line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExitCodesAndLog(t *testing.T) {
	needRunc(t)
	for _, tc := range []struct {
		script       string
		code, signal int
		log          string
	}{
		{"true", 0, 0, ""},
		{"echo out; echo err >&2; exit 7", 7, 0, "stdout:out\nstderr:err\n"},
		{"printf unfinished; exit 1", 1, 0, "stdout:unfinished"},
		{"kill -KILL $$", 0, 0, ""}, // the first process of a pid namespace is safe from itself
	} {
		c := makeConfig(t, nil, "sh", "-c", tc.script)
		cl := start(t, c)
		x := wait(t, cl)
		if x.Code != tc.code || x.Signal != tc.signal || x.Lost {
			t.Errorf("%q: %+v", tc.script, x)
		}
		if got := readLog(t, c); got != tc.log {
			t.Errorf("%q: log %q, want %q", tc.script, got, tc.log)
		}
		disk, err := shim.ReadExit(c.Dir)
		if err != nil || disk.Code != x.Code || !disk.At.Equal(x.At) {
			t.Errorf("exit.json: %+v, %v; told %+v", disk, err, x)
		}
	}
}

func TestSignals(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	for _, all := range []bool{false, true} {
		cl := start(t, makeConfig(t, nil, "sleep", "1000"))
		if err := cl.Kill(ctx, syscall.SIGKILL, all); err != nil {
			t.Fatal(err)
		}
		if x := wait(t, cl); x.Code != 137 || x.Signal != 9 || x.OOMKilled {
			t.Errorf("all %v: %+v", all, x)
		}
		if err := cl.Kill(ctx, syscall.SIGTERM, false); !errors.Is(err, runtime.ErrNotRunning) {
			t.Errorf("kill after the end: %v", err)
		}
	}
	c := makeConfig(t, nil, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
	cl := launch(t, c)
	s, err := cl.Attach(ctx, runtime.AttachOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := cl.Run(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, s.Stdout, "ready\n")
	if err := cl.Kill(ctx, syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if x := wait(t, cl); x.Code != 5 || x.Signal != 0 {
		t.Errorf("%+v", x)
	}
}

// Garbage ends its own connection only.
func TestGarbage(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, nil, "sleep", "1000")
	cl := start(t, c)
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x00\x00\x00\x00\x63\x00\x00\x00\x00", "\x02\x00\x00\x00\x08\x00\x00\x00\x00\xff\xff"} {
		conn, err := net.Dial("unix", filepath.Join(c.Dir, "shim.sock"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, b)
		io.Copy(io.Discard, conn) // until it hangs up
		conn.Close()
	}
	if st, err := cl.State(testContext(t)); err != nil || st.Phase != "running" {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestRuntimeRefuses(t *testing.T) {
	needRunc(t)
	for args, code := range map[string]int{"/nope": 127, "notthere": 127, "/bin/notexec": 126} {
		c := makeConfig(t, nil, args)
		cl := launch(t, c)
		_, err := cl.Run(testContext(t))
		var refused *shim.RuntimeError
		if !errors.As(err, &refused) || refused.Code != code || !strings.Contains(refused.Msg, args) {
			t.Errorf("%s: %v", args, err)
		}
		if x := wait(t, cl); x.Code != code || x.Error == "" {
			t.Errorf("%s: %+v", args, x)
		}
		if got := readLog(t, c); got != "" {
			t.Errorf("the runtime's message is in the log: %q", got)
		}
	}
}

func TestAttachBeforeStart(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, func(c *shim.Config, _ spec) { c.Stdin, c.StdinOnce = true, true }, "sh", "-c", "echo hello; cat; echo bye >&2")
	cl := launch(t, c)
	s, err := cl.Attach(testContext(t), runtime.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := cl.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcde\n", 1<<16) // 1 MiB: more than every buffer between
	go func() {
		io.WriteString(s.Stdin, big)
		s.Stdin.Close() // the other direction goes on
	}()
	stderr := make(chan string)
	go func() { b, _ := io.ReadAll(s.Stderr); stderr <- string(b) }()
	out, err := io.ReadAll(s.Stdout)
	if err != nil || string(out) != "hello\n"+big {
		t.Errorf("stdout: %d bytes, %v", len(out), err)
	}
	if got := <-stderr; got != "bye\n" {
		t.Errorf("stderr: %q", got)
	}
	if x := wait(t, cl); x.Code != 0 {
		t.Errorf("%+v", x)
	}
}

// TestInputBeforeStart: what a client sends while the container is being
// started is the beginning of its input, and so is the end of it.
func TestInputBeforeStart(t *testing.T) {
	needRunc(t)
	for _, size := range []int{0, 5, 40 << 10, 200 << 10} {
		c := makeConfig(t, func(c *shim.Config, _ spec) { c.Stdin, c.StdinOnce = true, true }, "wc", "-c")
		cl := launch(t, c)
		s, err := cl.Attach(testContext(t), runtime.AttachOptions{Stdin: true, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(s.Stdin, strings.Repeat("x", size))
			sent <- errors.Join(err, s.Stdin.Close())
		}()
		if size < 64<<10 { // more would wait for the process
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			sent <- nil
		}
		if _, err := cl.Run(testContext(t)); err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(s.Stdout)
		if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(size) {
			t.Errorf("sent %d: %q, %v, %v", size, out, err, <-sent)
		}
		_ = s.Close()
	}
}

func TestTTY(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, func(c *shim.Config, _ spec) { c.TTY, c.Stdin, c.Rows, c.Cols = true, true, 33, 101 },
		"sh", "-c", "read x; echo got $x; stty size; cat")
	cl := launch(t, c)
	ctx := testContext(t)
	s, err := cl.Attach(ctx, runtime.AttachOptions{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := cl.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.Resize(ctx, 40, 120); err != nil {
		t.Fatal(err)
	}
	io.WriteString(s.Stdin, "hi\n")
	expect(t, s.Stdout, "40 120\r\n")
	io.WriteString(s.Stdin, "\x10\x11")
	if _, err := io.WriteString(s.Stdin, "x"); err == nil {
		t.Error("still attached after the detach keys")
	}
	if st, err := cl.State(ctx); err != nil || st.Phase != "running" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := cl.CloseStdin(ctx); err != nil {
		t.Fatal(err)
	}
	if x := wait(t, cl); x.Code != 0 {
		t.Errorf("%+v", x)
	}
	if got := readLog(t, c); !strings.Contains(got, "got hi\r\n") {
		t.Errorf("log: %q", got)
	}
}

// expect reads until want has come.
func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	var got []byte
	buf := make([]byte, 1024)
	for !strings.Contains(string(got), want) {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("want %q, got %q, %v", want, got, err)
		}
	}
}

func TestPauseAndUpdate(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, nil, "sleep", "1000")
	cl := start(t, c)
	if err := cl.Update(ctx, []byte(`{"memory":{"limit":67108864}}`)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("/sys/fs/cgroup/memory/" + c.ID + "/memory.limit_in_bytes"); err == nil && strings.TrimSpace(string(b)) != "67108864" {
		t.Errorf("limit: %s", b)
	}
	if err := cl.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if st, _ := cl.State(ctx); !st.Paused {
		t.Error("not paused")
	}
	if err := cl.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.Kill(ctx, syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if x := wait(t, cl); x.Code != 137 {
		t.Errorf("killed while paused: %+v", x)
	}
}

func TestOOM(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, func(_ *shim.Config, s spec) {
		if l, ok := s["linux"].(map[string]any); ok {
			l["resources"] = map[string]any{"memory": map[string]any{"limit": 16 << 20, "swap": 16 << 20}}
		}
	}, "sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=64; tail /dev/zero")
	cl := start(t, c)
	if x := wait(t, cl); !x.OOMKilled || x.Code == 0 {
		t.Errorf("%+v", x)
	}
}

func TestUnusedShimEnds(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, nil, "true")
	cl := launch(t, c)
	st, err := cl.State(testContext(t))
	if err != nil || st.Phase != "created" {
		t.Fatalf("%+v, %v", st, err)
	}
	cl.Close()
	eventually(t, "the shim has ended", func() bool {
		_, err := os.Stat(filepath.Join(c.Dir, "shim.sock"))
		return os.IsNotExist(err)
	})
}
