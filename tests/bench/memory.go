package bench

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memory reads one field of /proc/PID/smaps_rollup in KiB: "Pss", "Rss".
func memory(pid int, field string) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if name == field {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

// processes finds the processes whose command line has all of the words.
func processes(words ...string) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
next:
	for _, d := range dirs {
		line, err := os.ReadFile(d + "/cmdline")
		if err != nil {
			continue
		}
		for _, w := range words {
			if !strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), w) {
				continue next
			}
		}
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
