package shim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/runtime/shim/logs"
)

// shimBinary is built once; rootfs is one directory for all containers.
var shimBinary, rootfs string

func TestMain(m *testing.M) {
	if dir := os.Getenv("SHIM_TEST_LAUNCHER"); dir != "" {
		launcher(dir)
		return
	}
	if path := os.Getenv("SHIM_TEST_RENEWER"); path != "" {
		renewer(path)
	}
	os.Exit(setup(m))
}

func setup(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dhow-shim-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	shimBinary, rootfs = filepath.Join(dir, "dhow-shim"), filepath.Join(dir, "rootfs")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", shimBinary, "github.com/dhow-project/dhow/cmd/dhow-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build shim: %v\n%s", err, out)
		return 1
	}
	if err := makeRootfs(); err != nil {
		fmt.Fprintln(os.Stderr, "rootfs:", err)
	}
	return m.Run()
}

func makeRootfs() error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(rootfs, "bin/busybox"), b, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(rootfs, "bin/notexec"), []byte("x"), 0o644); err != nil {
		return err
	}
	for _, name := range strings.Fields("sh echo cat sleep true false seq stty kill dd head yes tail wc") {
		if err := os.Symlink("busybox", filepath.Join(rootfs, "bin", name)); err != nil {
			return err
		}
	}
	return nil
}

// needRunc skips loudly where containers cannot run.
func needRunc(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: needs root")
	}
	for _, name := range []string{"runc", "busybox"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("SKIP: needs ", name)
		}
	}
}

// process is an OCI process object.
func process(tty bool, args ...string) map[string]any {
	return map[string]any{"terminal": tty, "user": map[string]int{"uid": 0, "gid": 0}, "args": args, "cwd": "/",
		"env": []string{"PATH=/bin"}, "noNewPrivileges": true}
}

func processJSON(tty bool, args ...string) []byte {
	b, err := json.Marshal(process(tty, args...))
	if err != nil {
		panic(err)
	}
	return b
}

type spec map[string]any

// makeBundle writes a bundle for the shared root file system.
func makeBundle(t testing.TB, id string, tty bool, change func(spec), args ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mount := func(dst, typ string, opts ...string) map[string]any {
		return map[string]any{"destination": dst, "type": typ, "source": typ, "options": opts}
	}
	ns := []map[string]string{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
	s := spec{"ociVersion": "1.0.2", "process": process(tty, args...), "hostname": "c",
		"root":   map[string]any{"path": rootfs, "readonly": true},
		"mounts": []any{mount("/proc", "proc"), mount("/dev", "tmpfs", "nosuid", "mode=755"), mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"), mount("/tmp", "tmpfs")},
		"linux":  map[string]any{"namespaces": ns, "cgroupsPath": "/" + id, "resources": map[string]any{}},
	}
	if change != nil {
		change(s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

var serial int

// makeConfig makes a bundle and the Config for it.
func makeConfig(t testing.TB, change func(*shim.Config, spec), args ...string) shim.Config {
	t.Helper()
	serial++
	id := fmt.Sprintf("dhowshimtest-%d-%d", os.Getpid(), serial)
	base := t.TempDir()
	c := shim.Config{ID: id, Dir: filepath.Join(base, "shim"), RuntimeRoot: filepath.Join(base, "runc"), CgroupPath: "/" + id,
		Log: logs.Config{Path: filepath.Join(base, "c.log")}}
	var apply func(spec)
	if change != nil {
		change(&c, spec{})
		apply = func(s spec) { change(&c, s) }
	}
	c.Bundle = makeBundle(t, id, c.TTY, apply, args...)
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// launch launches a shim and makes sure that nothing of it stays.
func launch(t testing.TB, c shim.Config) *shim.Client {
	t.Helper()
	cl, err := shim.Launch(testContext(t), shimBinary, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cl.Close()
		clean(t, c)
	})
	return cl
}

// clean ends what is left and checks that nothing is.
func clean(t testing.TB, c shim.Config) {
	t.Helper()
	if _, err := shim.Cleanup(context.Background(), c.Dir); err != nil {
		t.Errorf("cleanup: %v", err)
	}
	if left, _ := os.ReadDir(c.RuntimeRoot); len(left) > 0 {
		t.Errorf("the runtime still knows %s", left[0].Name())
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.ID); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
}

func start(t testing.TB, c shim.Config) *shim.Client {
	t.Helper()
	cl := launch(t, c)
	if _, err := cl.Run(testContext(t)); err != nil {
		b, _ := os.ReadFile(filepath.Join(c.Dir, "shim.log"))
		t.Fatalf("run: %v\n%s", err, b)
	}
	return cl
}

func wait(t testing.TB, cl *shim.Client) shim.Exit {
	t.Helper()
	select {
	case x, ok := <-cl.Wait():
		if !ok {
			t.Fatal("no exit")
		}
		return x
	case <-time.After(30 * time.Second):
		t.Fatal("no exit after 30 s")
		panic("unreachable")
	}
}

// eventually waits for what no channel tells: state of other processes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
		<-tick.C
	}
}
