package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// clockTick is the length of a tick in /proc and cgroup v1 files: USER_HZ is
// 100 on every architecture that Linux still has.
const clockTick = uint64(time.Second / 100)

// Stats reads the counters of a running container.
func (e *Engine) Stats(_ context.Context, ref string) (*runtime.Stats, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	rec, pid, running := c.rec, c.st.Pid, alive(c.st.Status)
	c.mu.Unlock()
	if !running {
		return nil, fmt.Errorf("stats of container %s: %w", rec.Name, runtime.ErrNotRunning)
	}
	s := &runtime.Stats{Time: time.Now(), OnlineCPUs: goruntime.NumCPU(), SystemNanos: systemNanos()}
	path := e.cgroupPath(rec)
	if e.facts.CgroupV2 {
		readV2(filepath.Join(cgroupRoot, path), s)
	} else {
		readV1(cgroupRoot, path, s)
	}
	if total := memTotal(); s.MemoryLimit == 0 || s.MemoryLimit > total {
		s.MemoryLimit = total
	}
	s.Networks = netCounters(fmt.Sprintf("/proc/%d/net/dev", pid))
	return s, nil
}

func readV1(root, path string, s *runtime.Stats) {
	file := func(controller, name string) string {
		return filepath.Join(root, controller, path, controller+"."+name)
	}
	s.CPUNanos = number(file("cpuacct", "usage"))
	acct := table(file("cpuacct", "stat"))
	s.CPUUserNanos, s.CPUSystemNanos = acct["user"]*clockTick, acct["system"]*clockTick
	cpu := table(file("cpu", "stat"))
	s.Periods, s.ThrottledPeriods, s.ThrottledNanos = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_time"]
	s.Memory, s.MemoryLimit = number(file("memory", "usage_in_bytes")), number(file("memory", "limit_in_bytes"))
	s.MemoryStats = table(file("memory", "stat"))
	s.Pids, s.PidsLimit = number(file("pids", "current")), number(file("pids", "max"))
	for line := range strings.Lines(text(file("blkio", "throttle.io_service_bytes"))) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 10, 64)
		switch f[1] {
		case "Read":
			s.BlockRead += n
		case "Write":
			s.BlockWrite += n
		}
	}
}

func readV2(dir string, s *runtime.Stats) {
	cpu := table(filepath.Join(dir, "cpu.stat"))
	s.CPUNanos, s.CPUUserNanos, s.CPUSystemNanos = cpu["usage_usec"]*1000, cpu["user_usec"]*1000, cpu["system_usec"]*1000
	s.Periods, s.ThrottledPeriods, s.ThrottledNanos = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_usec"]*1000
	s.Memory, s.MemoryLimit = number(filepath.Join(dir, "memory.current")), number(filepath.Join(dir, "memory.max"))
	s.MemoryStats = table(filepath.Join(dir, "memory.stat"))
	s.Pids, s.PidsLimit = number(filepath.Join(dir, "pids.current")), number(filepath.Join(dir, "pids.max"))
	for line := range strings.Lines(text(filepath.Join(dir, "io.stat"))) {
		for _, f := range strings.Fields(line) {
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(value, 10, 64)
			switch key {
			case "rbytes":
				s.BlockRead += n
			case "wbytes":
				s.BlockWrite += n
			}
		}
	}
}

// text of a small file; "" when it is not there: a controller may be missing.
func text(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// number in a file of one; "max" is 0.
func number(path string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(text(path)), 10, 64)
	return n
}

// table of lines "key value".
func table(path string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(text(path)) {
		if f := strings.Fields(line); len(f) == 2 {
			out[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	return out
}

// systemNanos is the time that all CPUs have spent, idle or not.
func systemNanos() uint64 {
	line, _, _ := strings.Cut(text("/proc/stat"), "\n")
	var sum uint64
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 { // the name; guest times are in user already
			continue
		}
		n, _ := strconv.ParseUint(f, 10, 64)
		sum += n
	}
	return sum * clockTick
}

func memTotal() uint64 {
	for line := range strings.Lines(text("/proc/meminfo")) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n * 1024
		}
	}
	return 0
}

// netCounters reads the interfaces of a network namespace, without loopback.
func netCounters(path string) map[string]runtime.NetStats {
	out := map[string]runtime.NetStats{}
	for line := range strings.Lines(text(path)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 12 || name == "lo" {
			continue
		}
		n := make([]uint64, 12)
		for i := range n {
			n[i], _ = strconv.ParseUint(f[i], 10, 64)
		}
		out[name] = runtime.NetStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return out
}
