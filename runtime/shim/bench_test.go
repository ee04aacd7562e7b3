package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime/shim"
)

// BenchmarkRawRunc is the yardstick: `runc run` of /bin/true.
func BenchmarkRawRunc(b *testing.B) {
	needRunc(b)
	c := makeConfig(b, nil, "true")
	for i := range b.N {
		cmd := exec.Command("runc", "--root", c.RuntimeRoot, "run", "--bundle", c.Bundle, c.ID+"-"+strconv.Itoa(i))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

// BenchmarkLifetime is Launch, Run and Wait of /bin/true.
func BenchmarkLifetime(b *testing.B) {
	needRunc(b)
	ctx := context.Background()
	c := makeConfig(b, nil, "true")
	var starting time.Duration
	for b.Loop() {
		at := time.Now()
		cl, err := shim.Launch(ctx, shimBinary, c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := cl.Run(ctx); err != nil {
			b.Fatal(err)
		}
		starting += time.Since(at)
		<-cl.Wait()
		cl.Close()
	}
	b.ReportMetric(float64(starting.Microseconds())/1e3/float64(b.N), "ms-to-running")
	clean(b, c)
}

// BenchmarkLaunch is the shim alone: from nothing until it answers.
func BenchmarkLaunch(b *testing.B) {
	needRunc(b)
	ctx := context.Background()
	c := makeConfig(b, nil, "true")
	for b.Loop() {
		cl, err := shim.Launch(ctx, shimBinary, c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := cl.State(ctx); err != nil {
			b.Fatal(err)
		}
		cl.Close()
	}
}

func BenchmarkRawExec(b *testing.B) {
	needRunc(b)
	c := makeConfig(b, nil, "sleep", "1000")
	start(b, c)
	for b.Loop() {
		if out, err := exec.Command("runc", "--root", c.RuntimeRoot, "exec", c.ID, "true").CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	needRunc(b)
	ctx := context.Background()
	cl := start(b, makeConfig(b, nil, "sleep", "1000"))
	for b.Loop() {
		s, err := cl.Exec(ctx, shim.ExecConfig{ID: "x", Process: processJSON(false, "true"), Stdout: true})
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, s.Stdout)
		<-s.Wait()
		s.Close()
	}
}

// BenchmarkLog is 100-byte lines through a pipe, with times, to disk. The
// container copies a file, because `yes` alone is slower than the shim.
func BenchmarkLog(b *testing.B) {
	needRunc(b)
	const size, times = 16 << 20, 64
	line := strings.Repeat("x", 99) + "\n"
	if err := os.WriteFile(filepath.Join(rootfs, "lines"), []byte(strings.Repeat(line, size/100)), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := makeConfig(b, func(c *shim.Config, _ spec) { c.Log.MaxSize, c.Log.MaxFiles = 100<<20, 2 },
			"sh", "-c", fmt.Sprintf("for i in $(seq %d); do cat /lines; done", times))
		b.SetBytes(size / 100 * 100 * times)
		cl := start(b, c)
		if x := <-cl.Wait(); x.Code != 0 {
			b.Fatalf("%+v", x)
		}
		cl.Close()
	}
}

// pss reads the proportional set size of a process in KiB.
func pss(t testing.TB, pid int) (kb int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kb, _ = strconv.Atoi(strings.Fields(v)[0])
		}
	}
	return kb
}

// TestMemory: a shim alone on the machine and ten together.
func TestMemory(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	const budget = 2500 // KiB; the whole budget per container is 5 MB
	var pids []int
	for i := range 10 {
		cl := start(t, makeConfig(t, func(c *shim.Config, _ spec) { c.Stdin = true }, "sh", "-c", "seq 1 20000; sleep 1000"))
		st, err := cl.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, st.ShimPid)
		if i == 0 {
			eventually(t, "the buffers are given back", func() bool { return pss(t, pids[0]) <= budget })
			t.Logf("one shim: %d KiB PSS", pss(t, pids[0]))
		}
	}
	sum := func() (total int) {
		for _, pid := range pids {
			total += pss(t, pid)
		}
		return total
	}
	eventually(t, "the buffers are given back", func() bool { return sum()/10 <= budget/2 })
	t.Logf("ten shims: %d KiB PSS each", sum()/10)
}
