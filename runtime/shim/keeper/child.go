package keeper

import (
	"syscall"
	"time"
)

// reaper waits for children that end and wakes the loop, one at a time.
type reaper struct {
	fd     int // eventfd
	forked chan struct{}
	reaped chan struct{}
}

func newReaper() (*reaper, error) {
	fd, err := eventfd()
	if err != nil {
		return nil, err
	}
	r := &reaper{fd: fd, forked: make(chan struct{}, 1), reaped: make(chan struct{}, 1)}
	go r.run()
	return r, nil
}

// run lives as long as the process.
func (r *reaper) run() {
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for {
		switch waitChild() {
		case nil:
			syscall.Write(r.fd, one)
			<-r.reaped
		case syscall.ECHILD:
			<-r.forked
		}
	}
}

// note tells the reaper that there may be children again.
func (r *reaper) note() {
	select {
	case r.forked <- struct{}{}:
	default:
	}
}

// reap collects every child that has ended.
func (k *keeper) reap(uint32) {
	var b [8]byte
	_, _ = syscall.Read(k.reaper.fd, b[:]) // empty already: fine
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			break
		}
		k.ended(pid, ws)
	}
	select {
	case k.reaper.reaped <- struct{}{}:
	default:
	}
}

// ended hands a status to whoever waits for it. A process that nobody knows is
// an orphan of the container, or one that the runtime has started but not told
// us about yet: those are kept while a runtime command is under way.
func (k *keeper) ended(pid int, ws syscall.WaitStatus) {
	if fn := k.children[pid]; fn != nil {
		delete(k.children, pid)
		fn(ws)
	} else if k.jobs > 0 {
		k.strays[pid] = ws
	}
}

// expect calls fn when pid ends, or at once if it already has.
func (k *keeper) expect(pid int, fn func(syscall.WaitStatus)) {
	if ws, ok := k.strays[pid]; ok {
		delete(k.strays, pid)
		fn(ws)
		return
	}
	k.children[pid] = fn
}

// runtime runs the OCI runtime with args and the given standard streams and
// calls done with its error; text is the runtime's own message. It returns the
// runtime's pid, 0 when it could not be started.
func (k *keeper) runtime(args []string, files [3]int, limit time.Duration, done func(text string, err error)) int {
	k.jobSeq++
	log := k.cfg.Dir + "/runtime." + itoa(k.jobSeq) + ".log"
	argv := append([]string{k.cfg.Runtime}, k.cfg.RuntimeArgs...)
	if k.cfg.RuntimeRoot != "" {
		argv = append(argv, "--root", k.cfg.RuntimeRoot)
	}
	argv = append(append(argv, "--log", log, "--log-format", "json"), args...)
	pid, err := syscall.ForkExec(k.cfg.Runtime, argv, &syscall.ProcAttr{
		Dir:   k.cfg.Bundle,
		Env:   k.env,
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		// Without us nobody would take note of what it starts.
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		done("start runtime "+k.cfg.Runtime+": "+err.Error(), err)
		return 0
	}
	k.reaper.note()
	k.jobs++
	kill := k.loop.after(limit, func() { syscall.Kill(pid, syscall.SIGKILL) })
	k.children[pid] = func(ws syscall.WaitStatus) {
		k.loop.stop(kill)
		text := ""
		var err error
		if !ws.Exited() || ws.ExitStatus() != 0 {
			err = errRuntime
			if text = runtimeMessage(readFile(log, 64<<10)); text == "" {
				text = "runtime " + args[0] + ": " + describe(ws)
			}
		}
		syscall.Unlink(log)
		done(text, err)
		if k.jobs--; k.jobs == 0 {
			clear(k.strays)
		}
	}
	return pid
}

func describe(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "killed by signal " + itoa(int(ws.Signal()))
	}
	return "exit status " + itoa(ws.ExitStatus())
}

// exitCode is the shell's: 128+N for signal N.
func exitCode(ws syscall.WaitStatus) (code, signal uint64) {
	if ws.Signaled() {
		return 128 + uint64(ws.Signal()), uint64(ws.Signal())
	}
	return uint64(ws.ExitStatus()), 0
}
