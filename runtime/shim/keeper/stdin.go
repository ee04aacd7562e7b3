package keeper

import "syscall"

// maxInput is how much of a client's input waits for the process; then the
// clients have to wait.
const maxInput = 64 << 10

// stdin is the writing end of a process's standard input. What clients send
// before there is a process waits for it.
type stdin struct {
	s      *session
	w      *watch
	fd     int
	open   bool
	ended  bool // close when the queue is written
	closed bool // for good
	queue  []byte
}

func (in *stdin) set(fd int) {
	syscall.SetNonblock(fd, true)
	in.fd, in.open = fd, true
	in.w = in.s.k.loop.watch(fd, func(uint32) { in.flush() })
	in.flush()
}

// write takes a client's input.
func (in *stdin) write(p []byte) {
	if in.closed || in.ended {
		return
	}
	in.queue = append(in.queue, p...)
	in.flush()
}

func (in *stdin) flush() {
	if !in.open {
		in.hold(len(in.queue) > maxInput)
		return
	}
	for in.open && len(in.queue) > 0 {
		n, err := syscall.Write(in.fd, in.queue)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		if err != nil { // the process has closed its end
			in.close()
			return
		}
		in.queue = in.queue[n:]
	}
	if len(in.queue) == 0 {
		in.queue = nil
		if in.ended {
			in.close()
			return
		}
	}
	in.update()
}

// update waits for room and holds the clients back while there is none.
func (in *stdin) update() {
	if !in.open {
		return
	}
	var events uint32
	if len(in.queue) > 0 {
		events = writable
	}
	in.s.k.loop.want(in.w, events)
	in.hold(len(in.queue) > maxInput)
}

func (in *stdin) hold(full bool) {
	for _, c := range append([]*conn(nil), in.s.viewers...) {
		switch {
		case !c.streams.Stdin || c.fd < 0:
		case full && c.reading:
			c.reading = false
			c.update()
		case !full && !c.reading:
			c.resume()
		}
	}
}

// end closes the input after what is queued. A terminal gets the character
// that means end of file.
func (in *stdin) end() {
	if in.closed || in.ended {
		return
	}
	if in.s.tty {
		in.write([]byte{4})
		return
	}
	in.ended = true
	in.flush()
}

func (in *stdin) close() {
	if in.closed {
		return
	}
	if in.open {
		in.s.k.loop.want(in.w, 0)
		syscall.Close(in.fd)
	}
	in.open, in.closed, in.queue = false, true, nil
	in.hold(false)
}
