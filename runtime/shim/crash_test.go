package shim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
)

// launcher is another process that starts a container and is then killed. dir
// holds the Config.
func launcher(dir string) {
	var in struct {
		Binary string
		Config shim.Config
	}
	b, err := os.ReadFile(filepath.Join(dir, "launch.json"))
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		panic(err)
	}
	cl, err := shim.Launch(context.Background(), in.Binary, in.Config)
	if err != nil {
		panic(err)
	}
	pid, err := cl.Run(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(pid)
	select {}
}

// launchElsewhere starts c in a process of its own and kills that with SIGKILL.
func launchElsewhere(t *testing.T, c shim.Config) {
	t.Helper()
	dir := t.TempDir()
	b, _ := json.Marshal(map[string]any{"Binary": shimBinary, "Config": c})
	if err := os.WriteFile(filepath.Join(dir, "launch.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHIM_TEST_LAUNCHER="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clean(t, c) })
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
}

func TestOutlivesItsLauncher(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, func(c *shim.Config, _ spec) { c.Stdin = true }, "sh", "-c", "echo one; read x; echo got $x; exit 9")
	launchElsewhere(t, c)
	cl, err := shim.Connect(ctx, c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	st, err := cl.State(ctx)
	if err != nil || st.Phase != "running" || st.Pid == 0 || st.StartedAt.IsZero() {
		t.Fatalf("%+v, %v", st, err)
	}
	x, err := cl.Exec(ctx, shim.ExecConfig{ID: "e", Process: processJSON(false, "echo", "inside"), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(x.Stdout); string(b) != "inside\n" || err != nil {
		t.Errorf("exec: %q, %v", b, err)
	}
	s, err := cl.Attach(ctx, runtime.AttachOptions{Stdin: true, Stdout: true, Stderr: true, Logs: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go io.Copy(io.Discard, s.Stderr)
	io.WriteString(s.Stdin, "water\n")
	if b, err := io.ReadAll(s.Stdout); string(b) != "one\ngot water\n" || err != nil {
		t.Errorf("attach with logs: %q, %v", b, err)
	}
	if x := wait(t, cl); x.Code != 9 {
		t.Errorf("%+v", x)
	}
	if _, err := shim.Connect(ctx, c.Dir); !errors.Is(err, runtime.ErrNotFound) {
		eventually(t, "the shim has ended", func() bool {
			_, err := shim.Connect(ctx, c.Dir)
			return errors.Is(err, runtime.ErrNotFound)
		})
	}
}

func TestEndsWithoutAnyone(t *testing.T) {
	needRunc(t)
	c := makeConfig(t, func(c *shim.Config, _ spec) { c.Stdin = true }, "sh", "-c", "sleep 0.3; echo late; exit 4")
	launchElsewhere(t, c)
	eventually(t, "exit.json", func() bool {
		x, err := shim.ReadExit(c.Dir)
		return err == nil && x.Code == 4
	})
	if left, _ := os.ReadDir(c.RuntimeRoot); len(left) > 0 {
		t.Error("the runtime still knows the container when its exit is announced")
	}
	if got := readLog(t, c); got != "stdout:late\n" {
		t.Errorf("log: %q", got)
	}
}

func TestShimKilled(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, nil, "sleep", "1000")
	cl := start(t, c)
	st, err := cl.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(st.ShimPid, syscall.SIGKILL)
	if x := wait(t, cl); !x.Lost || x.Code != 137 {
		t.Errorf("%+v", x)
	}
	if _, err := shim.ReadExit(c.Dir); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("exit.json: %v", err)
	}
	for range 2 { // the second finds nothing to do
		x, err := shim.Cleanup(ctx, c.Dir)
		if err != nil || x.Code != 137 || x.Lost || x.Error == "" {
			t.Errorf("%+v, %v", x, err)
		}
	}
	eventually(t, "the container is dead", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.Pid))
		return err != nil || strings.Contains(string(b), ") Z")
	})
}

func TestShimHangs(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, nil, "sleep", "1000")
	cl := start(t, c)
	st, _ := cl.State(ctx)
	syscall.Kill(st.ShimPid, syscall.SIGSTOP)
	if x, err := shim.Cleanup(ctx, c.Dir); err != nil || x.Code != 137 {
		t.Errorf("%+v, %v", x, err)
	}
}

// With the host's pid namespace, children outlive the first process and hold
// its streams open.
func TestChildrenKeepStdio(t *testing.T) {
	needRunc(t)
	for _, hostPid := range []bool{false, true} {
		c := makeConfig(t, func(_ *shim.Config, s spec) {
			if l, ok := s["linux"].(map[string]any); ok && hostPid {
				ns := l["namespaces"].([]map[string]string)
				l["namespaces"] = ns[1:]
			}
		}, "sh", "-c", "sleep 1000 & echo started; exit 3")
		cl := start(t, c)
		if x := wait(t, cl); x.Code != 3 {
			t.Errorf("host pid %v: %+v", hostPid, x)
		}
		if got := readLog(t, c); got != "stdout:started\n" {
			t.Errorf("log: %q", got)
		}
	}
}

func TestReapsOrphans(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	c := makeConfig(t, func(_ *shim.Config, s spec) {
		if l, ok := s["linux"].(map[string]any); ok {
			l["namespaces"] = l["namespaces"].([]map[string]string)[1:] // the host's pids: orphans come to the shim
		}
	}, "sh", "-c", "for i in 1 2 3 4 5; do sh -c 'sleep 0.05 &'; done; exec sleep 1000")
	cl := start(t, c)
	st, err := cl.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the init is the shim's only child", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", st.ShimPid, st.ShimPid))
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", st.Pid))
		return err == nil && len(strings.Fields(string(b))) == 1 && strings.TrimSpace(string(comm)) == "sleep"
	})
}
