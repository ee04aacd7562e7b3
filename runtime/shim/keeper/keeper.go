package keeper

import (
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/logs/record"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// listenerFD is where the launcher leaves the listening socket. The standard
// input is the Config.
const listenerFD = 3

// bufSize is what one read takes at most.
const bufSize = 256 << 10

// idleAfter is how long nothing must move before buffers are given back.
const idleAfter = 2 * time.Second

// keeper is the shim.
type keeper struct {
	cfg      wire.Config
	env      []string // of the runtime
	loop     *loop
	reaper   *reaper
	children map[int]func(syscall.WaitStatus)
	strays   map[int]syscall.WaitStatus // ended before we knew them; only while jobs > 0
	jobs     int
	jobSeq   int

	listener int
	listen   *watch
	met      bool // a client has been here
	conns    map[*conn]struct{}
	buf      []byte // for every read; outside the Go heap
	moves    uint64 // reads of output so far
	idle     *timer

	main       session
	master     int // of the container's terminal, -1 without
	log        *record.Writer
	execs      map[string]*execution
	endedExecs []endedExec // the last ones, oldest first
	phase      uint64
	pid        int
	began      time.Time
	paused     bool
	oomPath    string
	starter    int       // pid of the runtime that starts the container; 0: none does
	dog        *watchdog // nil: the container needs no lease
	exit       wire.ExitMsg
	ending     bool // the container is removed, execs are awaited
	finished   bool
	over       bool // the process may end
}

// Main runs the shim and returns its exit status. Problems before the first
// client is served go to descriptor 2, which the launcher has made a file.
func Main(env []string) int {
	goruntime.LockOSThread() // Pdeathsig is about the thread that forks
	k, err := start(env)
	if err != nil {
		syscall.Write(2, []byte("dhow-shim: "+err.Error()+"\n"))
		return 1
	}
	for !k.over {
		k.loop.once()
	}
	return 0
}

func start(env []string) (*keeper, error) {
	closeFrom(listenerFD + 1)
	cfg, err := readConfig()
	if err != nil {
		return nil, err
	}
	if err := setSubreaper(); err != nil {
		return nil, err
	}
	k := &keeper{cfg: cfg, listener: listenerFD, master: -1,
		children: map[int]func(syscall.WaitStatus){}, strays: map[int]syscall.WaitStatus{},
		conns: map[*conn]struct{}{}, execs: map[string]*execution{}}
	for _, v := range env {
		if !strings.HasPrefix(v, "GOGC=") && !strings.HasPrefix(v, "GOMAXPROCS=") {
			k.env = append(k.env, v)
		}
	}
	if k.loop, err = newLoop(); err != nil {
		return nil, err
	}
	if k.reaper, err = newReaper(); err != nil {
		return nil, err
	}
	if k.buf, err = syscall.Mmap(-1, 0, bufSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE); err != nil {
		return nil, err
	}
	logCfg := record.Config{Driver: cfg.LogDriver, Path: cfg.LogPath, MaxSize: int64(cfg.LogMaxSize), MaxFiles: int(cfg.LogMaxFiles)}
	// An error leaves a Writer that counts what it drops: a full disk must
	// not keep a container from running.
	k.log, _ = record.Open(logCfg, time.Now())
	k.main = session{k: k, tty: cfg.TTY, log: k.log, held: true}
	k.main.in.s = &k.main

	syscall.CloseOnExec(k.listener)
	syscall.SetNonblock(k.listener, true)
	k.listen = k.loop.watch(k.listener, k.accept)
	k.loop.want(k.listen, readable)
	k.loop.want(k.loop.watch(k.reaper.fd, k.reap), readable)
	return k, nil
}

// readConfig reads standard input to its end and makes it /dev/null.
func readConfig() (wire.Config, error) {
	var in []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(0, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return wire.Config{}, err
		}
		if n == 0 {
			break
		}
		in = append(in, buf[:n]...)
	}
	cfg, err := wire.DecodeConfig(in)
	if err != nil {
		return cfg, err
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR, 0)
	if err == nil && null != 0 {
		err = syscall.Dup3(null, 0, 0)
		syscall.Close(null)
	}
	return cfg, err
}

// used notes that the buffers are in use, and gives their memory back when
// nothing has moved for a while.
func (k *keeper) used() {
	k.moves++
	if k.idle == nil {
		k.watchIdle()
	}
}

func (k *keeper) watchIdle() {
	last := k.moves
	k.idle = k.loop.after(idleAfter, func() {
		k.idle = nil
		if k.moves != last {
			k.watchIdle()
			return
		}
		syscall.Madvise(k.buf, syscall.MADV_DONTNEED)
		k.log.Trim()
	})
}

func (k *keeper) state() wire.StateMsg {
	return wire.StateMsg{Version: wire.Version, Phase: k.phase, Pid: uint64(k.pid), ShimPid: uint64(syscall.Getpid()),
		StartedAt: k.began, Paused: k.paused, Dropped: k.log.Dropped(), Execs: uint64(len(k.execs))}
}
