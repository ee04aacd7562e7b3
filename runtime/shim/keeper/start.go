package keeper

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/runtime/shim/logs/record"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// startLimit is how long the runtime may take to start a container or an exec.
const startLimit = 5 * time.Minute

func recordStream(i int) record.Stream { return record.Stream(i) }

// run starts the container, once.
func (k *keeper) run(c *conn, id uint32) {
	if k.phase != wire.PhaseCreated {
		c.fail(id, wire.KindConflict, 0, "already started")
		return
	}
	k.phase = wire.PhaseStarting
	fail := func(text string) {
		c.fail(id, wire.KindRuntime, startCode(text), text)
		k.failed(text)
	}
	if k.cfg.Lease != "" {
		if err := k.guard(); err != nil {
			fail(err.Error())
			return
		}
	}
	pidFile := k.cfg.Dir + "/init.pid"
	args := []string{"run", "--detach", "--bundle", k.cfg.Bundle, "--pid-file", pidFile}
	files, console, args, err := k.streams(&k.main, k.cfg.Stdin, args, "console")
	if err != nil {
		closeFiles(files)
		console.close()
		fail("standard streams: " + err.Error())
		return
	}
	k.starter = k.runtime(append(args, k.cfg.ID), files, startLimit, func(text string, err error) {
		defer console.close()
		k.starter = 0
		pid := readPid(pidFile)
		if k.lapsed() { // what has come into being goes with `delete --force`
			text, err = lease.Ended, errRuntime
		}
		if err == nil && pid == 0 {
			text, err = "the runtime wrote no pid file", errRuntime
		}
		if err == nil && k.cfg.TTY {
			k.master, err = console.receive()
			if err != nil {
				text = "console: " + err.Error()
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err != nil {
			fail(text)
			return
		}
		k.running(pid)
		c.send(wire.Started, id, wire.StartedMsg{Pid: uint64(pid)}.Encode())
		k.expect(pid, k.initEnded)
	})
	closeFiles(files)
}

// running notes the start and begins to read the output.
func (k *keeper) running(pid int) {
	k.phase, k.pid, k.began = wire.PhaseRunning, pid, time.Now()
	if k.cfg.TTY {
		k.main.openTTY(k.master, k.cfg.Stdin)
		if k.cfg.Rows > 0 && k.cfg.Cols > 0 {
			_ = setWinsize(k.master, k.cfg.Rows, k.cfg.Cols) // a terminal of another size works too
		}
	}
	k.findCgroup(pid)
	k.main.start()
}

// streams makes what a process gets as standard streams: pipes, or a socket on
// which the runtime hands over a terminal.
func (k *keeper) streams(s *session, withStdin bool, args []string, name string) ([3]int, *console, []string, error) {
	if !s.tty {
		files, err := s.open(withStdin)
		return files, nil, args, err
	}
	con, err := k.openConsole(name)
	if err != nil {
		return [3]int{-1, -1, -1}, nil, args, err
	}
	return [3]int{-1, -1, -1}, con, append(args, "--console-socket", con.path), nil
}

// closeFiles closes the process's ends of the pipes.
func closeFiles(files [3]int) {
	for _, fd := range files {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}

func readPid(path string) int {
	pid, _ := strconv.Atoi(strings.TrimSpace(string(readFile(path, 32))))
	return max(pid, 0)
}
