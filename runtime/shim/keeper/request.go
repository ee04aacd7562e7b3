package keeper

import (
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// errString is an error without package errors' reflection.
type errString string

func (e errString) Error() string { return string(e) }

const (
	errRuntime = errString("the runtime failed")
	errUnknown = errString("unexpected frame")
)

// commandLimit is how long a runtime command other than run may take.
const commandLimit = 60 * time.Second

// request handles one frame. An error disconnects the client.
func (c *conn) request(f wire.Frame) error {
	if c.session != nil {
		return c.input(f)
	}
	k := c.k
	switch f.Type {
	case wire.GetState:
		c.send(wire.State, f.ID, k.state().Encode())
		return nil
	case wire.Run:
		k.run(c, f.ID)
		return nil
	case wire.CloseStdin:
		k.main.in.end()
		c.send(wire.OK, f.ID, nil)
		return nil
	case wire.Resize:
		m, err := wire.DecodeResize(f.Payload)
		if err == nil {
			k.resize(c, f.ID, m)
		}
		return err
	case wire.Signal:
		m, err := wire.DecodeSignal(f.Payload)
		if err == nil {
			k.signal(c, f.ID, m)
		}
		return err
	case wire.Command:
		m, err := wire.DecodeCommand(f.Payload)
		if err == nil {
			k.command(c, f.ID, m)
		}
		return err
	case wire.Attach:
		m, err := wire.DecodeAttach(f.Payload)
		if err == nil {
			k.attach(c, f.ID, m)
		}
		return err
	case wire.Exec:
		m, err := wire.DecodeExec(f.Payload)
		if err == nil {
			k.exec(c, f.ID, m)
		}
		return err
	case wire.Rejoin:
		m, err := wire.DecodeRejoin(f.Payload)
		if err == nil {
			k.rejoin(c, f.ID, m)
		}
		return err
	}
	return errUnknown
}

// input handles a frame of a stream connection.
func (c *conn) input(f wire.Frame) error {
	if !c.streams.Stdin || f.ID != wire.Stdin {
		return errUnknown
	}
	in := &c.session.in
	switch f.Type {
	case wire.Data:
		in.write(f.Payload)
		return nil
	case wire.EOF:
		if c.session.log == nil || c.k.cfg.StdinOnce {
			in.end()
		}
		return nil
	}
	return errUnknown
}

func (k *keeper) attach(c *conn, id uint32, m wire.AttachMsg) {
	inode, offset := k.log.Position()
	c.send(wire.Started, id, wire.StartedMsg{Pid: uint64(k.pid), Inode: inode, Offset: uint64(offset)}.Encode())
	c.join(&k.main, m.Streams)
	if m.Logs && m.Stdout {
		c.sendPending(wire.Stdout, 0)
	}
	if m.Logs && m.Stderr {
		c.sendPending(wire.Stderr, 1)
	}
}

func (c *conn) sendPending(stream uint32, i int) {
	if p := c.k.log.Pending(recordStream(i)); len(p) > 0 {
		c.send(wire.Data, stream, p)
	}
}

func (c *conn) join(s *session, streams wire.Streams) {
	if c.fd < 0 {
		return
	}
	c.session, c.streams, c.moved = s, streams, time.Now()
	s.viewers = append(s.viewers, c)
	s.update()
}

func (k *keeper) resize(c *conn, id uint32, m wire.ResizeMsg) {
	master := k.master
	if m.Exec != "" {
		x := k.execs[m.Exec]
		if x == nil {
			c.fail(id, wire.KindNotRunning, 0, "no such exec")
			return
		}
		x.rows, x.cols = m.Rows, m.Cols
		master = x.master()
	} else {
		k.cfg.Rows, k.cfg.Cols = m.Rows, m.Cols
	}
	if master >= 0 {
		if err := setWinsize(master, m.Rows, m.Cols); err != nil {
			c.fail(id, wire.KindInternal, 0, "resize: "+err.Error())
			return
		}
	}
	c.send(wire.OK, id, nil)
}

func (k *keeper) signal(c *conn, id uint32, m wire.SignalMsg) {
	pid := k.pid
	if m.Exec != "" {
		pid = 0
		if x := k.execs[m.Exec]; x != nil {
			pid = x.pid
		}
	}
	if pid == 0 {
		c.fail(id, wire.KindNotRunning, 0, "not running")
		return
	}
	sig := syscall.Signal(m.Signal)
	if m.All {
		k.runtime([]string{"kill", "--all", k.cfg.ID, itoa(int(sig))}, k.silent(), commandLimit, c.answer(id))
		return
	}
	// We are its parent and have not reaped it: the pid is still its own.
	if err := syscall.Kill(pid, sig); err != nil {
		c.fail(id, wire.KindInternal, 0, "kill: "+err.Error())
		return
	}
	c.send(wire.OK, id, nil)
	if sig == syscall.SIGKILL && k.paused && m.Exec == "" {
		// A frozen process of cgroup v1 dies only when it is thawed.
		k.paused = false
		k.runtime([]string{"resume", k.cfg.ID}, k.silent(), commandLimit, func(string, error) {})
	}
}

func (k *keeper) command(c *conn, id uint32, m wire.CommandMsg) {
	if k.pid == 0 {
		c.fail(id, wire.KindNotRunning, 0, "not running")
		return
	}
	answer := c.answer(id)
	switch m.Verb {
	case wire.Pause, wire.Resume:
		verb := [2]string{"pause", "resume"}[m.Verb]
		k.runtime([]string{verb, k.cfg.ID}, k.silent(), commandLimit, func(text string, err error) {
			if err == nil {
				k.paused = m.Verb == wire.Pause
			}
			answer(text, err)
		})
	case wire.Update:
		k.runtime([]string{"update", "--resources", m.Path, k.cfg.ID}, k.silent(), commandLimit, func(text string, err error) {
			syscall.Unlink(m.Path)
			answer(text, err)
		})
	default:
		c.fail(id, wire.KindInternal, 0, "unknown command")
	}
}

// answer tells the client how a runtime command went.
func (c *conn) answer(id uint32) func(text string, err error) {
	return func(text string, err error) {
		if err != nil {
			c.fail(id, wire.KindRuntime, startCode(text), text)
			return
		}
		c.send(wire.OK, id, nil)
	}
}

// silent is /dev/null for a runtime command: our own standard input.
func (k *keeper) silent() [3]int { return [3]int{0, 1, 1} }
