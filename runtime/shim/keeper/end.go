package keeper

import (
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

const (
	// deleteLimit is how long the runtime may take to remove the container.
	deleteLimit = 10 * time.Second
	// execLimit is how long execs may outlive the container.
	execLimit = 2 * time.Second
	// farewell is how long clients have to take what is theirs, as long as
	// they take something.
	farewell = 5 * time.Second
)

// initEnded begins the end: the container's first process has gone.
func (k *keeper) initEnded(ws syscall.WaitStatus) {
	k.exit.Code, k.exit.Signal = exitCode(ws)
	k.exit.At = time.Now()
	k.exit.OOMKilled = k.oomKilled() // before the cgroup is removed
	if k.lapsed() && k.exit.Signal == uint64(syscall.SIGKILL) {
		k.exit.Error = lease.Ended
	}
	k.remove()
}

// failed is the end of a container that could not be started.
func (k *keeper) failed(text string) {
	k.exit = wire.ExitMsg{Code: startCode(text), At: time.Now(), Error: text}
	// The runtime has written its message to the container's stderr, too.
	k.main.closeAll()
	k.remove()
}

// remove takes the container off the runtime's books: its state and cgroup,
// and processes that are left when it had no pid namespace of its own.
func (k *keeper) remove() {
	k.phase, k.pid = wire.PhaseExited, 0
	k.runtime([]string{"delete", "--force", k.cfg.ID}, k.silent(), deleteLimit, func(text string, err error) {
		if err != nil { // who takes note of the exit tries again
			complain("delete: " + text)
		}
		k.removed()
	})
}

// removed waits for the execs, which have been killed with the container.
func (k *keeper) removed() {
	if len(k.execs) == 0 {
		k.finish()
		return
	}
	k.ending = true
	k.loop.after(execLimit, func() {
		for _, x := range k.execs {
			if x.pid != 0 {
				syscall.Kill(x.pid, syscall.SIGKILL)
			}
			x.exit = wire.ExitMsg{Code: 137, Signal: 9, At: time.Now()}
			x.tell()
		}
	})
}

// checkEnd goes on with the end when the last exec has gone.
func (k *keeper) checkEnd() {
	if k.ending && len(k.execs) == 0 {
		k.finish()
	}
}

// finish completes log and exit.json, then tells everybody.
func (k *keeper) finish() {
	if k.finished {
		return
	}
	k.finished = true
	k.main.drain()
	k.main.closeAll()
	k.log.Close(time.Now())
	x := k.exit
	if err := writeFile(k.cfg.Dir+"/exit.json", exitJSON(x.Code, x.Signal, x.OOMKilled, x.At, x.Error)); err != nil {
		complain("exit.json: " + err.Error())
	}
	k.accept(0) // those that wait already are told, too
	k.loop.want(k.listen, 0)
	syscall.Close(k.listener)
	syscall.Unlink(k.cfg.Dir + "/shim.sock")
	syscall.Unlink(k.cfg.Dir + "/shim.pid")
	syscall.Unlink(k.cfg.Dir + "/init.pid")
	payload := x.Encode()
	for c := range k.conns {
		if c.session == nil || c.session == &k.main {
			c.end(wire.Exit, payload)
		}
	}
	k.leave()
}

// complain writes to the shim's own log.
func complain(text string) {
	_, _ = syscall.Write(2, []byte("dhow-shim: "+text+"\n")) // nobody to tell that the log is full
}

// leave ends the process when every client has what is theirs.
func (k *keeper) leave() {
	now := time.Now()
	for c := range k.conns {
		if c.behind() == 0 || now.Sub(c.moved) >= farewell {
			c.close()
		}
	}
	if len(k.conns) == 0 {
		k.over = true
		return
	}
	k.loop.after(20*time.Millisecond, k.leave)
}

// checkUnused ends a shim whose launcher has gone before it asked for a start.
func (k *keeper) checkUnused() {
	if k.phase == wire.PhaseCreated && k.met && len(k.conns) == 0 {
		syscall.Unlink(k.cfg.Dir + "/shim.sock")
		syscall.Unlink(k.cfg.Dir + "/shim.pid")
		k.over = true
	}
}
