package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupDirs are the directories of a group that exist, in the given v1
// hierarchies or in the one of v2.
func (e *Engine) cgroupDirs(path string, controllers ...string) []string {
	roots := []string{cgroupRoot}
	if !e.facts.CgroupV2 {
		roots = nil
		for _, name := range controllers {
			roots = append(roots, filepath.Join(cgroupRoot, name))
		}
	}
	var out []string
	for _, root := range roots {
		dir := filepath.Join(root, path)
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			out = append(out, dir)
		}
	}
	return out
}

// hierarchies are all places where a group may have a directory.
func (e *Engine) hierarchies() []string {
	if e.facts.CgroupV2 {
		return []string{""}
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil
	}
	var out []string
	for _, entry := range entries {
		if entry.IsDir() { // not the links such as cpu -> cpu,cpuacct
			out = append(out, entry.Name())
		}
	}
	return out
}

// removeCgroup removes what the runtime has left of a container's group.
func (e *Engine) removeCgroup(c *container) {
	c.mu.Lock()
	path := e.cgroupPath(c.rec)
	c.mu.Unlock()
	if len(e.cgroupDirs(path, "memory", "pids", "devices")) == 0 {
		return
	}
	for _, h := range e.hierarchies() {
		removeGroup(filepath.Join(cgroupRoot, h, path))
	}
}

// sweepCgroups removes the groups below our own parent that belong to no
// container that has a process, and the parent when it is empty. Processes
// found in them are killed: their shim and runtime are gone.
func (e *Engine) sweepCgroups(keep map[string]bool) {
	parent := e.cgroupParent()
	for _, h := range e.hierarchies() {
		dir := filepath.Join(cgroupRoot, h, parent)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if !entry.IsDir() || keep[entry.Name()] || !isID(entry.Name()) {
				continue
			}
			killGroup(filepath.Join(dir, entry.Name()))
			removeGroup(filepath.Join(dir, entry.Name()))
		}
		_ = unix.Rmdir(dir) // fails while it has children
	}
}

// dropCgroupParent removes our own parent group when no container is in it.
func (e *Engine) dropCgroupParent() {
	if e.cfg.CgroupParent != "" {
		return // somebody else's
	}
	for _, h := range e.hierarchies() {
		_ = unix.Rmdir(filepath.Join(cgroupRoot, h, e.cgroupParent())) // fails while it has children
	}
}

func isID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// killGroup kills all processes of a group and waits a moment for their end.
func killGroup(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		pids, err := cgroupPids(dir)
		if err != nil || len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			killAndWait(ctx, pid)
		}
	}
}

func killAndWait(ctx context.Context, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 || (err != nil && err != unix.EINTR) {
			return
		}
	}
}

// removeGroup removes a group and those below it.
func removeGroup(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			removeGroup(filepath.Join(dir, entry.Name()))
		}
	}
	_ = unix.Rmdir(dir)
}
