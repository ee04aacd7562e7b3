package keeper

import (
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/logs/record"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// session is the standard streams of one process and their clients.
type session struct {
	k       *keeper
	tty     bool
	sources [2]*source // stdout and stderr; with a terminal the first alone
	in      stdin
	viewers []*conn
	log     *record.Writer // nil for an exec
	waiting bool           // the sources rest until the clients have caught up
	stall   *timer
	held    bool   // the sources rest until the runtime has started the process
	onDone  func() // called when the last source has ended; may be nil
}

// source is one stream of output.
type source struct {
	fd     int // -1 when it has ended
	stream uint32
	w      *watch
}

// open makes the pipes and returns the ends for the process.
func (s *session) open(withStdin bool) (files [3]int, err error) {
	files = [3]int{-1, -1, -1}
	var p [2]int
	if withStdin {
		if err = syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
			return files, err
		}
		files[0] = p[0]
		s.in.set(p[1])
	} else if files[0], err = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
		return files, err
	}
	for i := range s.sources {
		if err = syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
			return files, err
		}
		setPipeSize(p[0], 256<<10)
		files[i+1] = p[1]
		s.addSource(i, p[0])
	}
	return files, nil
}

// openTTY uses the master of a terminal.
func (s *session) openTTY(master int, withStdin bool) {
	s.addSource(0, master)
	if !withStdin {
		return
	}
	if fd, err := dupCloexec(master); err == nil {
		s.in.set(fd)
	}
}

func (s *session) addSource(i, fd int) {
	syscall.SetNonblock(fd, true)
	src := &source{fd: fd, stream: wire.Stdout + uint32(i)}
	src.w = s.k.loop.watch(fd, func(uint32) { s.read(src) })
	s.sources[i] = src
}

// start begins to read what the process writes.
func (s *session) start() {
	s.held = false
	s.update()
}

// update lets the sources rest while a client is too far behind.
func (s *session) update() {
	behind := 0
	for _, c := range s.viewers {
		behind = max(behind, c.behind())
	}
	if s.waiting = behind > maxBehind || s.waiting && behind > maxBehind/2; !s.waiting && s.stall != nil {
		s.k.loop.stop(s.stall)
		s.stall = nil
	}
	if s.waiting && s.stall == nil && s.log != nil {
		s.stall = s.k.loop.after(maxStall, s.dropStalled)
	}
	var events uint32
	if !s.waiting && !s.held {
		events = readable
	}
	for _, src := range s.sources {
		if src != nil && src.fd >= 0 {
			s.k.loop.want(src.w, events)
		}
	}
}

// dropStalled disconnects the clients that took nothing for maxStall.
func (s *session) dropStalled() {
	s.stall = nil
	now := time.Now()
	for _, c := range append([]*conn(nil), s.viewers...) {
		if c.behind() > maxBehind/2 && now.Sub(c.moved) >= maxStall-time.Millisecond {
			c.close()
		}
	}
	s.update()
}

// read reads once and hands on what came. It reports whether there may be more.
func (s *session) read(src *source) bool {
	if src.fd < 0 {
		return false
	}
	n, err := syscall.Read(src.fd, s.k.buf)
	if err == syscall.EINTR {
		return true
	}
	if err == syscall.EAGAIN {
		return false
	}
	if n <= 0 || err != nil { // EIO: the last user of the terminal has closed it
		s.closeSource(src)
		return false
	}
	s.k.used()
	p := s.k.buf[:n]
	if s.log != nil {
		s.log.Write(record.Stream(src.stream-wire.Stdout), p, time.Now())
	}
	s.broadcast(src.stream, p)
	return true
}

func (s *session) broadcast(stream uint32, p []byte) {
	if len(s.viewers) == 0 {
		return
	}
	for _, c := range append([]*conn(nil), s.viewers...) {
		if stream == wire.Stdout && !c.streams.Stdout || stream == wire.Stderr && !c.streams.Stderr {
			continue
		}
		for rest := p; len(rest) > 0; {
			n := min(len(rest), wire.MaxPayload)
			c.send(wire.Data, stream, rest[:n])
			rest = rest[n:]
		}
	}
	s.update()
}

func (s *session) closeSource(src *source) {
	if src == nil || src.fd < 0 {
		return
	}
	s.k.loop.want(src.w, 0)
	syscall.Close(src.fd)
	src.fd = -1
	if s.log != nil {
		s.log.End(record.Stream(src.stream-wire.Stdout), time.Now())
	}
	if s.onDone != nil && s.done() {
		s.onDone()
	}
}

// maxRest bounds what is read after the end of a process: whoever still writes
// then is not part of it.
const maxRest = 4 << 20

// drain reads what is in the pipes now, whatever the clients do.
func (s *session) drain() {
	for _, src := range s.sources {
		for n := 0; src != nil && n < maxRest/(4<<10) && s.read(src); n++ {
		}
	}
}

// done tells whether all output has ended.
func (s *session) done() bool {
	for _, src := range s.sources {
		if src != nil && src.fd >= 0 {
			return false
		}
	}
	return true
}

// closeAll closes the streams.
func (s *session) closeAll() {
	for _, src := range s.sources {
		s.closeSource(src)
	}
	s.in.close()
}

// leave forgets a client that has gone.
func (s *session) leave(c *conn) {
	for i, v := range s.viewers {
		if v == c {
			s.viewers = append(s.viewers[:i:i], s.viewers[i+1:]...)
			break
		}
	}
	// A container's terminal outlives who looks at it, as in Docker: leaving
	// by the detach keys is no end of input.
	if c.streams.Stdin && (s.log == nil || s.k.cfg.StdinOnce && !s.k.cfg.TTY) {
		s.in.end()
	}
	s.update()
}
