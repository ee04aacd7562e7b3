package keeper

import (
	"bytes"
	"strconv"
)

// cgroupRoot is where the hierarchies are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// findCgroup finds the file that counts OOM kills: memory.oom_control of
// cgroup v1 or memory.events of v2. The files go with the cgroup, so they are
// read before the container is deleted.
func (k *keeper) findCgroup(pid int) {
	v1, v2 := k.cfg.CgroupPath, k.cfg.CgroupPath
	if v1 == "" || v1[0] != '/' {
		v1, v2 = cgroupOf(readFile("/proc/"+itoa(pid)+"/cgroup", 64<<10))
	}
	for _, path := range []string{
		cgroupRoot + "/memory" + v1 + "/memory.oom_control",
		cgroupRoot + v2 + "/memory.events",
	} {
		if readFile(path, 1) != nil {
			k.oomPath = path
			return
		}
	}
}

// cgroupOf reads /proc/PID/cgroup: lines of "id:controllers:path".
func cgroupOf(b []byte) (v1, v2 string) {
	for line := range bytes.Lines(b) {
		parts := bytes.SplitN(bytes.TrimSpace(line), []byte(":"), 3)
		if len(parts) != 3 {
			continue
		}
		if len(parts[1]) == 0 {
			v2 = string(parts[2])
			continue
		}
		for c := range bytes.SplitSeq(parts[1], []byte(",")) {
			if string(c) == "memory" {
				v1 = string(parts[2])
			}
		}
	}
	return v1, v2
}

// oomKilled tells whether the kernel has killed a process of the container for
// want of memory.
func (k *keeper) oomKilled() bool {
	return k.oomPath != "" && oomKills(readFile(k.oomPath, 4096)) > 0
}

func oomKills(b []byte) uint64 {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 64)
			return n
		}
	}
	return 0
}
