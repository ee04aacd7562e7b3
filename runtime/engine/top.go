package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
)

// Top lists the processes of a container: the output of the host's ps with the
// given arguments (none: -ef), of these processes only.
func (e *Engine) Top(ctx context.Context, ref string, psArgs []string) ([]string, [][]string, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	if err := c.mustRun("list processes of"); err != nil && c.status() != runtime.Paused {
		return nil, nil, err
	}
	pids, err := e.pids(c)
	if err != nil {
		return nil, nil, fmt.Errorf("list processes of container %s: %w", c.name(), err)
	}
	args := strings.Fields(strings.Join(psArgs, " "))
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	cmd := exec.CommandContext(ctx, "ps", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("ps %s: %w: %s: %w", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()), runtime.ErrInvalid)
	}
	return filterPs(string(out), pids)
}

// filterPs splits the table that ps prints and keeps the rows of pids. The
// last column may contain spaces.
func filterPs(out string, pids []int) ([]string, [][]string, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	titles := strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return nil, nil, fmt.Errorf("ps prints no column PID: %w", runtime.ErrInvalid)
	}
	var rows [][]string
	for _, line := range lines[1:] {
		row := splitColumns(line, len(titles))
		if len(row) <= at {
			continue
		}
		if pid, err := strconv.Atoi(row[at]); err == nil && slices.Contains(pids, pid) {
			rows = append(rows, row)
		}
	}
	return titles, rows, nil
}

func splitColumns(line string, n int) []string {
	var out []string
	for len(out) < n-1 {
		line = strings.TrimLeft(line, " \t")
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			break
		}
		out = append(out, line[:end])
		line = line[end:]
	}
	if rest := strings.TrimSpace(line); rest != "" {
		out = append(out, rest)
	}
	return out
}

// pids of all processes in the container's cgroup and below.
func (e *Engine) pids(c *container) ([]int, error) {
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	dirs := e.cgroupDirs(e.cgroupPath(rec), "pids", "memory", "cpu")
	if len(dirs) == 0 {
		return nil, fmt.Errorf("cgroup %s: %w", e.cgroupPath(rec), runtime.ErrNotFound)
	}
	return cgroupPids(dirs[0])
}

func cgroupPids(dir string) ([]int, error) {
	data, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, word := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			below, err := cgroupPids(dir + "/" + entry.Name())
			if err == nil {
				pids = append(pids, below...)
			}
		}
	}
	return pids, nil
}
