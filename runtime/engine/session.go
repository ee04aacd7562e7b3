package engine

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// endSession kills the processes of a container that belong to the session of
// sid, the process of an exec that took too long: its children would go on as
// children of the container's first process. The runtime gives every exec a
// session of its own; one that began another session has asked to stay.
func (e *Engine) endSession(ctx context.Context, c *container, sid int) {
	for left := true; left && ctx.Err() == nil; {
		pids, err := e.pids(c)
		if err != nil {
			return // it has ended as a whole
		}
		left = false
		for _, pid := range pids {
			left = killOf(ctx, pid, sid) || left
		}
	}
}

// killOf kills pid if it is of the session and alive, and waits for its end.
func killOf(ctx context.Context, pid, sid int) bool {
	fd, err := unix.PidfdOpen(pid, 0) // first, so that it cannot be another's meanwhile
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if sessionOf(pid) != sid || unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 || (err != nil && err != unix.EINTR) {
			break
		}
	}
	return true
}

// sessionOf reads the session of a process that is no zombie; 0 if there is none.
func sessionOf(pid int) int {
	b := []byte(text(fmt.Sprintf("/proc/%d/stat", pid)))
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" ")) // the name may hold anything
	f := bytes.Fields(rest)                                                  // state, parent, group, session, ...
	if !ok || len(f) < 4 || f[0][0] == 'Z' {
		return 0
	}
	sid, _ := strconv.Atoi(string(f[3]))
	return sid
}
