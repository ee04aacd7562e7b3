package keeper

import (
	"syscall"
	"time"
	"unsafe"

	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// The watchdog of a container that may run only while its node has a lease. It
// looks at the lease's file shortly before what it knows runs out, and kills the
// container when nobody has renewed it: the daemon may be dead, or stand still.

const (
	// trust is how long a look at the file counts at most: it may say that the
	// lease never ends, and then be rewritten or vanish.
	trust = 5 * time.Second
	// ahead is how long before the end the file is looked at.
	ahead = time.Second
	// lookAgain is the time between two looks while the end comes near.
	lookAgain = 100 * time.Millisecond
	// killAgain is the time between two kills: a process may have forked meanwhile.
	killAgain = 50 * time.Millisecond
)

// watchdog is nil for containers without a lease.
type watchdog struct {
	fd     int // timerfd of CLOCK_BOOTTIME: it fires at once when the machine wakes up
	w      *watch
	end    int64 // of the lease, as far as known, in ns of CLOCK_BOOTTIME
	lapsed bool
	thawed bool
}

// guard begins to watch the lease. There is no container yet; without a lease
// there will be none.
func (k *keeper) guard() error {
	d := &watchdog{fd: -1}
	if d.look(k.cfg.Lease); !lease.Running(d.end, lease.Now()) {
		return errString(lease.Ended)
	}
	var err error
	if d.fd, err = timerfd(); err != nil {
		return err
	}
	d.w = k.loop.watch(d.fd, k.checkLease)
	k.loop.want(d.w, readable)
	k.dog = d
	k.checkLease(0)
	return nil
}

// look takes in what the file says. What cannot be read says nothing new.
func (d *watchdog) look(path string) {
	if end, err := lease.Read(path); err == nil {
		d.end = min(end, lease.Now()+int64(trust))
	}
}

// checkLease is called by the timer.
func (k *keeper) checkLease(uint32) {
	d := k.dog
	var b [8]byte
	_, _ = syscall.Read(d.fd, b[:]) // empty: fine
	if k.phase == wire.PhaseExited {
		k.loop.want(d.w, 0)
		syscall.Close(d.fd)
		return
	}
	if !d.lapsed {
		d.look(k.cfg.Lease)
	}
	now, last := lease.Now(), d.end-int64(lease.Margin)
	switch {
	case d.lapsed || !lease.Running(d.end, now):
		k.lapse()
		arm(d.fd, now+int64(killAgain))
	case now >= last-int64(ahead):
		arm(d.fd, min(now+int64(lookAgain), last))
	default:
		arm(d.fd, last-int64(ahead))
	}
}

// lapse kills the container with all its processes, or the attempt to start it.
func (k *keeper) lapse() {
	d := k.dog
	if !d.lapsed {
		d.lapsed = true
		complain(lease.Ended)
	}
	if k.phase == wire.PhaseStarting {
		if k.starter > 0 {
			syscall.Kill(k.starter, syscall.SIGKILL)
		}
		return
	}
	syscall.Kill(k.pid, syscall.SIGKILL)
	for _, x := range k.execs {
		if x.pid > 0 {
			syscall.Kill(x.pid, syscall.SIGKILL)
		}
	}
	k.killCgroup()
	if k.paused && !d.thawed { // a frozen process of cgroup v1 dies only when it is thawed
		d.thawed = true
		k.runtime([]string{"resume", k.cfg.ID}, k.silent(), commandLimit, func(string, error) {})
	}
}

// lapsed says whether the lease has ended.
func (k *keeper) lapsed() bool { return k.dog != nil && k.dog.lapsed }

// killCgroup kills what does not die with the first process, because it shares
// another's pid namespace. What is in cgroups below goes with `delete --force`.
func (k *keeper) killCgroup() {
	dir := ""
	for i := len(k.oomPath) - 1; i > 0 && dir == ""; i-- {
		if k.oomPath[i] == '/' {
			dir = k.oomPath[:i]
		}
	}
	if dir == "" {
		return
	}
	if fd, err := syscall.Open(dir+"/cgroup.kill", syscall.O_WRONLY|syscall.O_CLOEXEC, 0); err == nil { // v2
		_, err = syscall.Write(fd, []byte("1"))
		syscall.Close(fd)
		if err == nil {
			return
		}
	}
	pid := 0
	for _, c := range readFile(dir+"/cgroup.procs", 1<<20) {
		if c >= '0' && c <= '9' {
			pid = pid*10 + int(c-'0')
			continue
		}
		if pid > 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		pid = 0
	}
}

// Constants of timerfd_create(2) and timerfd_settime(2).
const (
	clockBoottime = 7
	tfdAbstime    = 1
)

func timerfd() (int, error) {
	fd, _, e := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockBoottime, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	return int(fd), errnoErr(e)
}

// arm sets the timer to a moment of CLOCK_BOOTTIME; one that has passed is now.
func arm(fd int, at int64) {
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(max(at, 1))}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(fd), tfdAbstime, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}
