package shim_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
)

func execWait(t testing.TB, s *shim.ExecSession) shim.ExecExit {
	t.Helper()
	select {
	case x := <-s.Wait():
		return x
	case <-time.After(20 * time.Second):
		t.Fatal("exec: no exit after 20 s")
		panic("unreachable")
	}
}

func TestExec(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))

	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "a", Process: processJSON(false, "sh", "-c", "cat; echo err >&2; exit 6"), Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() { io.WriteString(s.Stdin, "over\n"); s.Stdin.Close() }()
	stderr := make(chan string)
	go func() { b, _ := io.ReadAll(s.Stderr); stderr <- string(b) }()
	out, err := io.ReadAll(s.Stdout)
	select { // the code is final once the stream has ended
	case x := <-s.Wait():
		if x.Code != 6 || x.Err != nil {
			t.Errorf("%+v", x)
		}
	default:
		t.Error("the stream ended before the exit was known")
	}
	if string(out) != "over\n" || err != nil || <-stderr != "err\n" {
		t.Errorf("stdout %q, %v", out, err)
	}

	for args, code := range map[string]int{"/nope": 127, "nope": 127, "/bin/notexec": 126} {
		_, err := cl.Exec(ctx, shim.ExecConfig{ID: "b", Process: processJSON(false, args), Stdout: true, Stderr: true})
		var refused *shim.RuntimeError
		if !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("%s: %v", args, err)
		}
	}

	s, err = cl.Exec(ctx, shim.ExecConfig{ID: "c", Process: processJSON(false, "sleep", "1000")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Exec(ctx, shim.ExecConfig{ID: "c", Process: processJSON(false, "true")}); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("same ID: %v", err)
	}
	if err := s.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if x := execWait(t, s); x.Code != 143 {
		t.Errorf("%+v", x)
	}
}

func TestExecTTY(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))
	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "t", Process: processJSON(true, "sh", "-c", "read x; stty size; read x; stty size"), TTY: true, Stdin: true, Stdout: true, Rows: 30, Cols: 90})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s.Stdin, "\n")
	expect(t, s.Stdout, "30 90\r\n")
	if err := s.Resize(ctx, 50, 150); err != nil {
		t.Fatal(err)
	}
	io.WriteString(s.Stdin, "\n")
	expect(t, s.Stdout, "50 150\r\n")
	if x := execWait(t, s); x.Code != 0 {
		t.Errorf("%+v", x)
	}
	s.Close()
}

// A child of an exec that keeps its output open must not hold up its end, and
// must not be killed by it.
func TestExecLeavesChild(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))
	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "x", Process: processJSON(false, "sh", "-c", "(while sleep 0.05; do echo tick; done) & echo done"), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s.Stdout); !strings.HasPrefix(string(b), "done\n") || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if x := execWait(t, s); x.Code != 0 {
		t.Errorf("%+v", x)
	}
	if err := cl.Kill(ctx, syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	wait(t, cl)
}

// Waiting for a child that will close the output soon costs the shim nothing,
// and the close is noticed at once.
func TestExecLingersAsleep(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))
	st, err := cl.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "x", Process: processJSON(false, "sh", "-c", "sleep 0.35 & echo done"), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s.Stdout, "done\n")
	before, began := wakeups(t, st.ShimPid), time.Now()
	if x := execWait(t, s); x.Code != 0 {
		t.Errorf("%+v", x)
	}
	woken, took := wakeups(t, st.ShimPid)-before, time.Since(began)
	if woken > 15 {
		t.Errorf("the shim woke up %d times in %v", woken, took)
	}
	if took < 200*time.Millisecond {
		t.Errorf("the end was told after %v, before that of the output", took)
	}
}

// wakeups counts how often the first thread of a process, which is the one that
// serves, gave up the processor to wait.
func wakeups(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
	n := 0
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestExecEndsWithContainer(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))
	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "x", Process: processJSON(false, "sleep", "1000"), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Kill(ctx, syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if x := execWait(t, s); x.Code != 137 {
		t.Errorf("%+v", x)
	}
	wait(t, cl)
}

func TestManyAttached(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, nil, "sh", "-c", "seq 1 100000; echo end >&2")
	cl := launch(t, c)
	want := ""
	var b strings.Builder
	for i := 1; i <= 100000; i++ {
		fmt.Fprintln(&b, i)
	}
	want = b.String()
	var wg sync.WaitGroup
	for range 30 {
		s, err := cl.Attach(ctx, runtime.AttachOptions{Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Close()
			if b, err := io.ReadAll(s.Stdout); string(b) != want || err != nil {
				t.Errorf("%d bytes of %d, %v", len(b), len(want), err)
			}
		})
	}
	deaf, err := cl.Attach(ctx, runtime.AttachOptions{Stdout: true}) // takes nothing, but less than 1 MiB is due to it
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := cl.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	wait(t, cl)
}

// A client that takes nothing holds up neither log nor container for long.
func TestDeafClientIsDropped(t *testing.T) {
	needRunc(t)
	if testing.Short() {
		t.Skip("SKIP: takes five seconds")
	}
	ctx := testContext(t)
	c := makeConfig(t, func(c *shim.Config, _ spec) { c.Log.MaxSize, c.Log.MaxFiles = 1<<20, 2 }, "sh", "-c", "yes 0123456789 | head -c 8000000; echo last")
	cl := launch(t, c)
	deaf, err := cl.Attach(ctx, runtime.AttachOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := cl.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wait(t, cl)
	if got := readLog(t, c); !strings.HasSuffix(got, "last\n") || len(got) > 2<<20 {
		t.Errorf("%d bytes of log, last %q", len(got), got[max(0, len(got)-20):])
	}
	if _, err := io.ReadAll(deaf.Stdout); err == nil {
		t.Error("the output was cut and the client does not know")
	}
}

// Who comes back finds an exec again, running or ended, with its exit.
func TestRejoinExec(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	cl := start(t, makeConfig(t, nil, "sleep", "1000"))
	s, err := cl.Exec(ctx, shim.ExecConfig{ID: "r", Process: processJSON(false, "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s.Stdout, "up\n")
	s.Close() // the client leaves, the process stays
	if x := execWait(t, s); !x.Lost {
		t.Errorf("left: %+v", x)
	}
	again, err := cl.Rejoin(ctx, "r")
	if err != nil || again.Pid != s.Pid {
		t.Fatalf("rejoin: %+v, %v", again, err)
	}
	if err := again.Kill(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if x := execWait(t, again); x.Code != 5 || x.Lost {
		t.Errorf("%+v", x)
	}
	late, err := cl.Rejoin(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	if x := execWait(t, late); x.Code != 5 || x.Lost {
		t.Errorf("after the end: %+v", x)
	}
	if _, err := cl.Rejoin(ctx, "nosuch"); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("unknown: %v", err)
	}
}
