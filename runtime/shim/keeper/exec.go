package keeper

import (
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// maxExecs bounds the execs that run at once.
const maxExecs = 256

// lingerAfterExec is how long output is awaited after the end of an exec whose
// children keep its streams open.
const lingerAfterExec = 500 * time.Millisecond

// execution is one further process in the container.
type execution struct {
	session
	id         string
	pid        int // 0 until it runs and after it has ended
	rows, cols uint64
	exit       wire.ExitMsg
	linger     *timer
	told       bool
}

func (x *execution) master() int {
	if x.tty && x.sources[0] != nil {
		return x.sources[0].fd
	}
	return -1
}

func (k *keeper) exec(c *conn, id uint32, m wire.ExecMsg) {
	refuse := func(kind uint64, text string) {
		syscall.Unlink(m.File)
		c.fail(id, kind, startCode(text), text)
	}
	switch {
	case k.pid == 0:
		refuse(wire.KindNotRunning, "not running")
		return
	case k.paused:
		refuse(wire.KindConflict, "the container is paused")
		return
	case k.execs[m.ID] != nil:
		refuse(wire.KindConflict, "an exec with this ID runs already")
		return
	case len(k.execs) >= maxExecs:
		refuse(wire.KindConflict, "too many execs")
		return
	}
	x := &execution{session: session{k: k, tty: m.TTY, held: true}, id: m.ID, rows: m.Rows, cols: m.Cols}
	x.in.s = &x.session
	k.execs[m.ID] = x
	c.session = &x.session // its end, even now, is that of the stdin
	c.streams = m.Streams
	k.jobSeq++
	name := "exec." + itoa(k.jobSeq)
	pidFile := k.cfg.Dir + "/" + name + ".pid"
	args := []string{"exec", "--detach", "--process", m.File, "--pid-file", pidFile}
	files, con, args, err := k.streams(&x.session, m.Stdin, args, name)
	if err != nil {
		closeFiles(files)
		con.close()
		c.session = nil
		refuse(wire.KindInternal, "standard streams: "+err.Error())
		x.forget()
		return
	}
	k.runtime(append(args, k.cfg.ID), files, startLimit, func(text string, err error) {
		pid := readPid(pidFile)
		syscall.Unlink(pidFile)
		syscall.Unlink(m.File)
		defer con.close()
		if err == nil && pid == 0 {
			text, err = "the runtime wrote no pid file", errRuntime
		}
		if err == nil && x.tty {
			var master int
			if master, err = con.receive(); err == nil {
				x.openTTY(master, m.Stdin)
				if x.rows > 0 && x.cols > 0 {
					_ = setWinsize(master, x.rows, x.cols) // a terminal of another size works too
				}
			} else {
				text = "console: " + err.Error()
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err != nil {
			c.session = nil
			c.fail(id, wire.KindRuntime, startCode(text), text)
			x.forget()
			return
		}
		x.pid = pid
		c.send(wire.Started, id, wire.StartedMsg{Pid: uint64(pid)}.Encode())
		c.join(&x.session, m.Streams)
		if c.fd < 0 {
			x.in.end()
		}
		x.start()
		k.expect(pid, x.ended)
	})
	closeFiles(files)
}

// ended notes the exit. The clients are told when the output has ended, or a
// little later when someone else keeps it open.
func (x *execution) ended(ws syscall.WaitStatus) {
	x.pid = 0
	x.exit.Code, x.exit.Signal = exitCode(ws)
	x.exit.At = time.Now()
	x.waiting = false
	x.drain()
	if x.done() {
		x.tell()
		return
	}
	x.onDone = x.tell
	x.linger = x.k.loop.after(lingerAfterExec, x.tell)
}

// tell ends the streams of the clients. Output of children that live on is read
// and thrown away: closing the pipe would kill them.
func (x *execution) tell() {
	if x.told {
		return
	}
	x.told, x.onDone = true, nil
	x.k.loop.stop(x.linger)
	x.drain()
	x.in.close()
	x.k.remember(endedExec{x.id, x.exit})
	for _, c := range append([]*conn(nil), x.viewers...) {
		c.end(wire.Exit, x.exit.Encode())
	}
	delete(x.k.execs, x.id)
	x.k.checkEnd()
}

// endedExec is the exit of an exec, kept for a daemon that was not there.
type endedExec struct {
	id   string
	exit wire.ExitMsg
}

// keptExecs is how many exits are kept.
const keptExecs = 32

func (k *keeper) remember(e endedExec) {
	if len(k.endedExecs) == keptExecs {
		k.endedExecs = append(k.endedExecs[:0], k.endedExecs[1:]...)
	}
	k.endedExecs = append(k.endedExecs, e)
}

// rejoin makes c wait for the exit of an exec that somebody else has started.
func (k *keeper) rejoin(c *conn, id uint32, m wire.RejoinMsg) {
	if x := k.execs[m.Exec]; x != nil {
		c.send(wire.Started, id, wire.StartedMsg{Pid: uint64(x.pid)}.Encode())
		c.join(&x.session, wire.Streams{})
		return
	}
	for i := len(k.endedExecs) - 1; i >= 0; i-- {
		if k.endedExecs[i].id == m.Exec {
			c.send(wire.Started, id, wire.StartedMsg{}.Encode())
			c.end(wire.Exit, k.endedExecs[i].exit.Encode())
			return
		}
	}
	c.fail(id, wire.KindNotRunning, 0, "no such exec")
}

func (x *execution) forget() {
	x.closeAll()
	for _, c := range append([]*conn(nil), x.viewers...) {
		c.close() // rejoined before it started
	}
	delete(x.k.execs, x.id)
	x.k.checkEnd()
}
