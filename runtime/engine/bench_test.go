package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// BenchmarkCreateStart is one container from create to its process running;
// BenchmarkRawRunc beside it is the budget's yardstick.
func BenchmarkCreateStart(b *testing.B) {
	n := newNode(b)
	ctx := context.Background()
	for b.Loop() {
		id, _, err := n.Create(ctx, "", stack.ContainerSpec{Image: busybox, Command: []string{"sleep", "1000"}})
		n.ok(err)
		n.ok(n.Start(ctx, id))
		b.StopTimer()
		n.ok(n.Remove(ctx, id, runtime.RemoveOptions{Force: true}))
		b.StartTimer()
	}
}

// BenchmarkRunTrue is create, start, wait and remove, as `docker run --rm true`.
func BenchmarkRunTrue(b *testing.B) {
	n := newNode(b)
	ctx := context.Background()
	for b.Loop() {
		id, _, err := n.Create(ctx, "", stack.ContainerSpec{Image: busybox, Command: []string{"true"}})
		n.ok(err)
		done, err := n.Wait(ctx, id, runtime.WaitNextExit)
		n.ok(err)
		n.ok(n.Start(ctx, id))
		<-done
		n.ok(n.Remove(ctx, id, runtime.RemoveOptions{}))
	}
}

// BenchmarkRawRunc is `runc run` of true with the spec that `runc spec` makes.
func BenchmarkRawRunc(b *testing.B) {
	dir := b.TempDir()
	bundle := filepath.Join(dir, "bundle")
	bin := filepath.Join(bundle, "rootfs", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Skip(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "true"), data, 0o755); err != nil {
		b.Fatal(err)
	}
	run := func(args ...string) {
		cmd := exec.Command("runc", append([]string{"--root", filepath.Join(dir, "root")}, args...)...)
		cmd.Dir = bundle
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("runc %v: %v %s", args, err, out)
		}
	}
	run("spec")
	var spec map[string]any
	text, _ := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err := json.Unmarshal(text, &spec); err != nil {
		b.Fatal(err)
	}
	p := spec["process"].(map[string]any)
	p["terminal"], p["args"] = false, []string{"/bin/true"}
	delete(p, "rlimits")
	text, _ = json.Marshal(spec)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		run("run", fmt.Sprintf("bench-%d-%d", os.Getpid(), i))
	}
}

// BenchmarkExec is the latency of `exec true`.
func BenchmarkExec(b *testing.B) {
	n := newNode(b)
	id := n.start("bench-exec", stack.ContainerSpec{Command: []string{"sleep", "1000"}})
	for b.Loop() {
		if out, code := n.exec(id, "true"); code != 0 {
			b.Fatal(out, code)
		}
	}
}

// BenchmarkSixty is sixty containers from create to running, together.
func BenchmarkSixty(b *testing.B) {
	n := newNode(b)
	ctx := context.Background()
	for b.Loop() {
		began := time.Now()
		ids := make([]string, 60)
		var g sync.WaitGroup
		slots := make(chan struct{}, 8)
		for i := range ids {
			g.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				id, _, err := n.Create(ctx, "", stack.ContainerSpec{Image: busybox, Command: []string{"sleep", "1000"}})
				if err == nil {
					err = n.Start(ctx, id)
				}
				if err != nil {
					b.Error(err)
				}
				ids[i] = id
			})
		}
		g.Wait()
		b.ReportMetric(time.Since(began).Seconds(), "s/60")
		b.StopTimer()
		for _, id := range ids {
			n.ok(n.Remove(ctx, id, runtime.RemoveOptions{Force: true}))
		}
		b.StartTimer()
	}
}
