package netlab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// remember notes the mark that the engine names its cgroups after. A test may
// have damaged the file that it stands in, or lost the directory; the daemon
// then goes on under a new mark, and the groups of the old one are nobody's.
func (h *Host) remember() {
	mark, err := os.ReadFile(filepath.Join(h.DataDir, "engine", "instance"))
	if name := strings.TrimSpace(string(mark)); err == nil && len(name) == 8 && !slices.Contains(h.marks, name) {
		h.marks = append(h.marks, name)
	}
}

// dropCgroups removes what daemons of this host that were killed could not: the
// groups under its marks, in all hierarchies, as far as no process is in them.
func (h *Host) dropCgroups() {
	for _, mark := range h.marks {
		for _, dir := range groupsOf(mark) {
			dropGroup(dir)
		}
	}
}

// groupsOf are the parent groups of a mark: one in cgroup v2, one in each
// hierarchy of v1.
func groupsOf(mark string) []string {
	var dirs []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, _ := filepath.Glob(filepath.Join(root, "dhow-"+mark))
		dirs = append(dirs, found...)
	}
	return dirs
}

// dropGroup removes a group with those below it. The kernel refuses to remove
// one that has processes.
func dropGroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			dropGroup(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}
