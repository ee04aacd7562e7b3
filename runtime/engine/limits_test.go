package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sys/unix"
)

func onCgroupV2() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// group reads a file of a container's group, of the controller where that has a hierarchy of its own.
func (n *node) group(id, controller, file string) string {
	n.Helper()
	root := "/sys/fs/cgroup"
	if !onCgroupV2() {
		root = filepath.Join(root, controller)
	}
	b, err := os.ReadFile(filepath.Join(root, "dhow-"+n.mark(), id, file))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// TestLimitsReachTheKernel reads the limits where the kernel keeps them, in both versions of cgroups.
func TestLimitsReachTheKernel(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Resources = stack.Resources{
		NanoCPUs: 5e8, CPUShares: 512, CpusetCpus: "0", Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwap: 96 << 20, PidsLimit: 77,
	}
	id, warnings, err := n.Create(n.ctx(), "limits", withImage(spec))
	n.ok(err)
	n.ok(n.Start(n.ctx(), id))
	swap := !strings.Contains(strings.Join(warnings, " "), "swap")
	want := [][3]string{ // controller, file, value
		{"cpu", "cpu.cfs_quota_us", "50000"}, {"cpu", "cpu.shares", "512"}, {"cpuset", "cpuset.cpus", "0"},
		{"memory", "memory.limit_in_bytes", "67108864"}, {"memory", "memory.soft_limit_in_bytes", "33554432"}, {"pids", "pids.max", "77"},
	}
	swapFile := [3]string{"memory", "memory.memsw.limit_in_bytes", "100663296"}
	if onCgroupV2() {
		want = [][3]string{
			{"", "cpu.max", "50000 100000"}, {"", "cpu.weight", "20"}, {"", "cpuset.cpus", "0"},
			{"", "memory.max", "67108864"}, {"", "memory.low", "33554432"}, {"", "pids.max", "77"},
		}
		swapFile = [3]string{"", "memory.swap.max", "33554432"}
	}
	if swap {
		want = append(want, swapFile)
	}
	for _, w := range want {
		if got := n.group(id, w[0], w[1]); got != w[2] {
			t.Errorf("%s is %q, want %q", w[1], got, w[2])
		}
	}
	s, err := n.Stats(n.ctx(), id)
	n.ok(err)
	if s.MemoryLimit != 64<<20 || s.PidsLimit != 77 || s.Memory == 0 || s.CPUNanos == 0 || s.Pids == 0 {
		t.Errorf("stats %+v", s)
	}
	n.ok(n.Update(n.ctx(), id, stack.Resources{NanoCPUs: 25e7, PidsLimit: 88}, nil))
	quota := map[bool][3]string{false: {"cpu", "cpu.cfs_quota_us", "25000"}, true: {"", "cpu.max", "25000 100000"}}[onCgroupV2()]
	for _, w := range [][3]string{quota, {"pids", "pids.max", "88"}} {
		if got := n.group(id, w[0], w[1]); got != w[2] {
			t.Errorf("after the update %s is %q, want %q", w[1], got, w[2])
		}
	}
}

func withImage(s stack.ContainerSpec) stack.ContainerSpec {
	s.Image = busybox
	return s
}

// TestPidsLimitHolds: the limit is not only written down.
func TestPidsLimitHolds(t *testing.T) {
	n := newNode(t)
	spec := sh("for i in $(seq 60); do sleep 5 & done 2>&1; echo reached")
	spec.Resources.PidsLimit = 30 // the OCI runtime's own threads need room before the program starts
	if out, _ := n.run(spec); !strings.Contains(out, "can't fork") {
		t.Errorf("sixty processes under a limit of thirty: %q", out)
	}
}

// TestOOMOfAChildIsToldLive: the container goes on, and whoever watches events knows.
func TestOOMOfAChildIsToldLive(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("while :; do sleep 0.1; [ -e /tmp/go ] && { rm /tmp/go; dd if=/dev/zero of=/dev/null bs=200M count=1; }; done")
	spec.Resources.Memory = 40 << 20
	spec.Resources.MemorySwap = spec.Resources.Memory
	id := n.start("hungry", spec)
	isOOM := func(e runtime.Event) bool { return e.Action == "oom" && e.ID == id }
	n.exec(id, "touch", "/tmp/go")
	n.until(events, isOOM)
	if c := n.inspect(id); c.State.Status != runtime.Running {
		t.Fatalf("it is %s", c.State.Status)
	}
	n.reopen() // the next daemon tells the next one, not the last one again
	events = n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	n.exec(id, "touch", "/tmp/go")
	n.until(events, isOOM)
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	n.until(events, func(e runtime.Event) bool {
		if isOOM(e) {
			t.Error("told once more at the end")
		}
		return e.Action == "die"
	})
}

// TestUlimitAboveTheHardLimit warns and starts where the daemon may not raise it.
func TestUlimitAboveTheHardLimit(t *testing.T) {
	n := newNode(t)
	var have unix.Rlimit
	n.ok(unix.Getrlimit(unix.RLIMIT_NOFILE, &have))
	spec := withImage(sh("ulimit -Hn"))
	spec.Ulimits = []stack.Ulimit{{Name: "nofile", Soft: 64, Hard: int64(have.Max) + 1}}
	spec.OOMScoreAdj = -900
	id, warnings, err := n.Create(n.ctx(), "", spec)
	n.ok(err)
	n.ok(n.Start(n.ctx(), id))
	n.exit(id)
	limit := have.Max
	switch len(warnings) {
	case 0: // this daemon may
		limit++
	case 2:
		if !strings.Contains(warnings[0], "nofile") || !strings.Contains(warnings[1], "oom_score_adj") {
			t.Errorf("warnings %q", warnings)
		}
	default:
		t.Errorf("warnings %q", warnings)
	}
	if got, want := n.log(id), fmt.Sprintln(limit); got != want {
		t.Errorf("hard limit %q, want %q", got, want)
	}
}

// TestRuntimeByName: another OCI runtime runs a container when the daemon knows it; one that is not there is named.
func TestRuntimeByName(t *testing.T) {
	n := newNode(t)
	spec := withImage(sh("echo ran"))
	spec.Runtime = "runsc"
	if _, _, err := n.Create(n.ctx(), "", spec); err == nil || !strings.Contains(err.Error(), "runsc") {
		t.Errorf("a runtime that is not there: %v", err)
	}
	if _, err := os.Stat("/usr/bin/crun"); err != nil || !onCgroupV2() {
		t.Skip("SKIP: crun is not installed, or this is cgroup v1, which it refuses")
	}
	spec.Runtime = "crun"
	if out, code := n.run(spec); out != "ran\n" || code != 0 {
		t.Errorf("crun: %q, exit %d", out, code)
	}
}

// TestOrphanedLayersAreSwept: a writable layer without a record goes when the daemon starts, one whose record is damaged stays.
func TestOrphanedLayersAreSwept(t *testing.T) {
	n := newNode(t)
	id := n.start("kept", sh("sleep 1000"))
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	img := n.inspect(id).ImageID
	orphan := strings.Repeat("ab", 32)
	at := filepath.Join(n.dir, "orphan")
	n.ok(n.images.MountRootfs(n.ctx(), orphan, img, at))
	n.ok(n.images.UnmountRootfs(n.ctx(), orphan, at))
	n.reopen()
	if _, err := n.images.Usage(n.ctx(), orphan); err == nil {
		t.Error("the layer without a container is still there")
	}
	if _, err := n.images.Usage(n.ctx(), id); err != nil {
		t.Error(err)
	}
}
