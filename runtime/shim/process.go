package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// writePid writes "PID STARTTIME": the pair names a process for ever, the pid
// alone may be used again.
func writePid(dir string, pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, pidFile), fmt.Appendf(nil, "%d %s\n", pid, start), 0o600)
}

// startTime is field 22 of /proc/PID/stat: clock ticks since boot. A zombie has
// none.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	stat := string(b) // the name may hold anything, but is in brackets
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) >= 20 && fields[0] == "Z" {
		return "", os.ErrProcessDone
	}
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: malformed", pid)
	}
	return fields[19], nil
}

// livePid is the pid of the shim of dir, 0 when there is none.
func livePid(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return 0
	}
	first, second, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 0 {
		return 0
	}
	if start, err := startTime(pid); err != nil || start != second {
		return 0
	}
	return pid
}

// children are shims that this process has started and nobody talks to any
// more; they are reaped when they have ended.
var children struct {
	sync.Mutex
	pids  []int
	armed bool // a sweep is to come
}

// abandon leaves the end of a child to sweeps, which come as long as a child is left.
func abandon(pid int) {
	children.Lock()
	defer children.Unlock()
	children.pids = append(children.pids, pid)
	if !children.armed {
		children.armed = true
		sweepAfter(time.Millisecond)
	}
}

// sweepAfter must be called with children locked or from its own timer.
func sweepAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		if sweep() {
			sweepAfter(min(2*d, 5*time.Second))
		}
	})
}

// sweep reaps the abandoned children that have ended and reports whether some are left.
func sweep() bool {
	children.Lock()
	defer children.Unlock()
	live := children.pids[:0]
	for _, pid := range children.pids {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 && err == nil {
			live = append(live, pid)
		}
	}
	children.pids = live
	children.armed = children.armed && len(live) > 0
	return children.armed
}
