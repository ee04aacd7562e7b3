package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Leftovers lists what the host's containers left on the machine: processes,
// mounts, cgroups, namespaces, links, routes and rules. The daemon's own process
// does not count. It is empty after a `down` of everything.
func (h *Host) Leftovers() []string {
	var left []string
	left = append(left, h.processes()...)
	left = append(left, h.mounts()...)
	left = append(left, h.netns()...)
	left = append(left, h.network()...)
	left = append(left, h.cgroups()...)
	return left
}

// Shims are the processes of dhow-shim on this host, or that of one container.
// Their command line has only the container's ID, but their messages go to a
// file in the run directory.
func (h *Host) Shims(id ...string) []int {
	var found []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		line, err := os.ReadFile(d + "/cmdline")
		if err != nil || !strings.HasPrefix(string(line), "dhow-shim\x00") || len(id) > 0 && !strings.Contains(string(line), id[0]) {
			continue
		}
		if to, err := os.Readlink(d + "/fd/2"); err == nil && strings.HasPrefix(to, h.RunDir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(d))
			found = append(found, pid)
		}
	}
	return found
}

// processes whose command line names the host's directories, and shims.
func (h *Host) processes() []string {
	var left []string
	for _, pid := range h.Shims() {
		left = append(left, fmt.Sprintf("shim %d", pid))
	}
	h.mu.Lock()
	own := 0
	if h.daemon != nil {
		own = h.daemon.Process.Pid
	}
	h.mu.Unlock()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		line, err := os.ReadFile(d + "/cmdline")
		if err != nil || pid == own || pid == os.Getpid() {
			continue
		}
		text := strings.ReplaceAll(string(line), "\x00", " ")
		if strings.Contains(text, h.RunDir) || strings.Contains(text, h.DataDir) {
			if strings.Contains(text, " daemon ") && own != 0 {
				continue // nsenter's child
			}
			left = append(left, fmt.Sprintf("process %d: %s", pid, text))
		}
	}
	return left
}

func (h *Host) mounts() []string {
	var left []string
	data, _ := os.ReadFile("/proc/self/mounts")
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 1 && (strings.HasPrefix(fields[1], h.RunDir+"/") || strings.HasPrefix(fields[1], h.DataDir+"/")) {
			left = append(left, "mount "+fields[1])
		}
	}
	return left
}

func (h *Host) netns() []string {
	var left []string
	files, _ := filepath.Glob(h.RunDir + "/netns/*")
	for _, f := range files {
		left = append(left, "namespace "+f)
	}
	return left
}

// cgroups of containers of this host. The engine names their parent after the
// mark of its data directory; the parent itself stays while the daemon runs.
func (h *Host) cgroups() []string {
	mark, err := os.ReadFile(filepath.Join(h.DataDir, "engine", "instance"))
	if err != nil {
		return nil // no engine has been here
	}
	var left []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(filepath.Join(root, "dhow-"+strings.TrimSpace(string(mark)), "*"))
		for _, d := range dirs {
			if info, err := os.Stat(d); err == nil && info.IsDir() {
				left = append(left, "cgroup "+d)
			}
		}
	}
	return left
}
