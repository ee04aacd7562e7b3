package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// process is the first process of a container, found without its daemon.
type process struct {
	host      string
	container string
	place     string // web.2
	pid       int
	began     string // with the pid, it names the process for ever
}

// processes finds the containers of a service that run on a host, from what
// their shims have left in the run directory and from /proc: also while the
// daemon is dead or stands still.
func processes(h *netlab.Host, stackName, service string) []process {
	var out []process
	files, _ := filepath.Glob(filepath.Join(h.RunDir, "c", "*", "init.pid"))
	for _, f := range files {
		var cfg struct{ ID string }
		var rec struct {
			Spec struct{ Labels map[string]string }
		}
		if !read(filepath.Join(filepath.Dir(f), "shim.json"), &cfg) || !read(filepath.Join(h.DataDir, "engine", "containers", cfg.ID, "record.json"), &rec) {
			continue // on its way in or out
		}
		l := rec.Spec.Labels
		if l["com.docker.compose.project"] != stackName || l["com.docker.compose.service"] != service {
			continue
		}
		data, err := os.ReadFile(f)
		pid, parseErr := strconv.Atoi(strings.TrimSpace(string(data)))
		if began := birth(pid); err == nil && parseErr == nil && began != "" {
			out = append(out, process{h.Name, cfg.ID, service + "." + l["com.docker.compose.container-number"], pid, began})
		}
	}
	return out
}

func (p process) lives() bool { return birth(p.pid) == p.began }

// birth is field 22 of /proc/PID/stat; "" when there is no such process, or only its remains.
func birth(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

func read(path string, to any) bool {
	data, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(data, to) == nil
}

// neverTwice looks at the processes on all hosts again and again, over the heads
// of the cluster, and fails when a service has two of one place. It returns how
// often it has looked.
func (c *C) neverTwice(ctx context.Context, stackName, service string) int {
	looks := 0
	for ; ctx.Err() == nil; looks++ {
		seen := map[string]process{}
		for _, h := range c.Hosts {
			for _, p := range processes(h, stackName, service) {
				// The first was seen a moment before: two are two only when it
				// still lives now that the second does.
				if other, ok := seen[p.place]; ok && other.lives() && p.lives() {
					c.Errorf("%s runs on %s and on %s", p.place, other.host, p.host)
				}
				seen[p.place] = p
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return looks
}
