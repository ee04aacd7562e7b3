package keeper

import (
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/wire"
)

const (
	// maxBehind is how much output a client may be behind before the process
	// has to wait for it.
	maxBehind = 1 << 20
	// maxStall is how long a client of the container may take nothing at all
	// while the container waits for it; then it is dropped.
	maxStall = 5 * time.Second
	// maxAnswers bounds what a control connection may leave unread.
	maxAnswers = 256 << 10
	// maxConns bounds the clients of one shim.
	maxConns = 1024
)

// conn is one client.
type conn struct {
	k       *keeper
	w       *watch
	fd      int
	in      []byte // the beginning of a frame
	out     []byte // not yet written, from sent on
	sent    int
	moved   time.Time // last time the client took something
	reading bool
	last    bool // close when out is written

	session *session // nil for a control connection
	streams wire.Streams
}

// accept takes every client that waits.
func (k *keeper) accept(uint32) {
	for {
		fd, _, err := syscall.Accept4(k.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		if len(k.conns) >= maxConns {
			syscall.Close(fd)
			continue
		}
		c := &conn{k: k, fd: fd, reading: true, moved: time.Now()}
		c.w = k.loop.watch(fd, c.ready)
		k.conns[c] = struct{}{}
		k.met = true
		c.send(wire.State, 0, k.state().Encode())
		c.update()
	}
}

// update sets what the connection waits for.
func (c *conn) update() {
	if c.fd < 0 {
		return
	}
	var events uint32
	if c.reading {
		events |= readable
	}
	if c.behind() > 0 {
		events |= writable
	}
	c.k.loop.want(c.w, events)
}

func (c *conn) behind() int { return len(c.out) - c.sent }

func (c *conn) ready(events uint32) {
	if events&^uint32(readable) != 0 && c.behind() > 0 {
		c.flush()
	}
	if c.fd >= 0 && c.reading && events&^uint32(writable) != 0 {
		c.receive()
	}
	c.update()
}

// receive reads once and handles the whole frames that have come.
func (c *conn) receive() {
	buf := c.k.buf
	n, err := syscall.Read(c.fd, buf)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if n <= 0 || err != nil {
		c.close()
		return
	}
	if len(c.in) == 0 {
		// The frames are handled where they were read. Nothing that a
		// request does reads into the same buffer.
		c.in = c.handle(buf[:n:n], true)
		return
	}
	c.in = c.handle(append(c.in, buf[:n]...), false)
}

// handle handles the frames in b and returns what is left, in memory of its
// own when b is borrowed.
func (c *conn) handle(b []byte, borrowed bool) []byte {
	for c.fd >= 0 && c.reading {
		f, n, err := wire.Next(b)
		if err == nil && n == 0 {
			break
		}
		if err == nil {
			b = b[n:]
			err = c.request(f)
		}
		if err != nil {
			c.close()
		}
	}
	if len(b) == 0 || c.fd < 0 {
		return nil
	}
	if borrowed {
		return append([]byte(nil), b...)
	}
	return b
}

// resume handles what came before the connection stopped reading.
func (c *conn) resume() {
	c.reading = true
	if len(c.in) > 0 {
		c.in = c.handle(c.in, false)
	}
	c.update()
}

// send writes a frame, or keeps what the client does not take yet.
func (c *conn) send(t wire.Type, id uint32, payload []byte) {
	if c.fd < 0 || c.last {
		return
	}
	var h [wire.HeaderLen]byte
	wire.PutHeader(&h, t, id, len(payload))
	done := 0
	if c.behind() == 0 {
		n, err := writev(c.fd, h[:], payload)
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			c.close()
			return
		}
		if err == nil {
			done = n
			c.moved = time.Now()
		}
		if done == len(h)+len(payload) {
			return
		}
	}
	if done < len(h) {
		c.out = append(c.out, h[done:]...)
		done = len(h)
	}
	c.out = append(c.out, payload[done-len(h):]...)
	if c.session == nil && c.behind() > maxAnswers {
		c.close()
		return
	}
	c.update()
}

// flush writes what was kept.
func (c *conn) flush() {
	for c.behind() > 0 {
		n, err := syscall.Write(c.fd, c.out[c.sent:])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		if err != nil || n <= 0 {
			c.close()
			return
		}
		c.sent += n
		c.moved = time.Now()
	}
	if c.behind() == 0 {
		c.out, c.sent = nil, 0
		if c.last {
			c.close()
			return
		}
	} else if c.sent > maxBehind/2 {
		c.out = append(c.out[:0], c.out[c.sent:]...)
		c.sent = 0
	}
	if c.session != nil {
		c.session.update()
	}
}

// end sends a last frame and closes when it is written.
func (c *conn) end(t wire.Type, payload []byte) {
	c.send(t, 0, payload)
	c.last = true
	if c.fd >= 0 && c.behind() == 0 {
		c.close()
	}
}

func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	c.k.loop.want(c.w, 0)
	syscall.Close(c.fd)
	c.fd, c.out, c.sent, c.in = -1, nil, 0, nil
	delete(c.k.conns, c)
	if s := c.session; s != nil {
		s.leave(c)
	}
	c.k.checkUnused()
}

func (c *conn) fail(id uint32, kind, code uint64, text string) {
	c.send(wire.Error, id, wire.ErrorMsg{Kind: kind, Code: code, Text: text}.Encode())
}
