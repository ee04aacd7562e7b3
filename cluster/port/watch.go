package port

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A machine that vanishes leaves a sender to the kernel's retransmissions for a
// quarter of an hour; keep-alive probes rest while data is under way, and
// TCP_USER_TIMEOUT would also end connections whose reader is only slow. So the
// port looks itself whether the other kernel still answers. A stopped or slow
// process is not taken for dead: its kernel acknowledges. Raft and gRPC know
// their dead by themselves; this is for HTTP.
const (
	watchEvery = 2 * time.Second
	deadAfter  = 8 * time.Second // without progress while acknowledgements are due
)

// watchConn begins to look after c. Nobody else may know c yet.
func watchConn(c *Conn) {
	tcp, ok := c.raw.(*net.TCPConn)
	if !ok || c.proto != ProtoHTTP {
		return
	}
	var last look
	c.watch = time.AfterFunc(time.Hour, func() {
		if last = last.next(tcp, time.Now()); last.dead() {
			c.port.log.Info("connection closed: the other machine does not answer", "peer", c.peer.Node, "addr", c.raw.RemoteAddr())
			c.abort()
			return
		}
		if !c.done.Load() {
			c.watch.Reset(watchEvery)
		}
	})
	c.watch.Reset(watchEvery)
}

// look is what a connection's kernel state says.
type look struct {
	acked  uint64        // bytes the other kernel has acknowledged
	due    bool          // more has been sent
	full   bool          // the other end has no room: it is slow, not gone
	silent time.Duration // since anything came from there
	begin  time.Time     // of the first look with this acked while due
	stuck  time.Duration // since begin
}

func (l look) dead() bool {
	return l.due && l.stuck >= deadAfter && (!l.full || l.silent >= deadAfter)
}

// next looks again. What cannot be read is taken for alive.
func (l look) next(c *net.TCPConn, now time.Time) look {
	info := infoOf(c)
	if info == nil {
		return look{}
	}
	n := look{
		acked: info.Bytes_acked, due: info.Unacked > 0, full: info.Snd_wnd == 0,
		silent: time.Duration(info.Last_ack_recv) * time.Millisecond, begin: now,
	}
	if l.due && n.due && l.acked == n.acked {
		n.begin = l.begin
	}
	n.stuck = now.Sub(n.begin)
	return n
}

// infoOf is what the kernel knows of a connection; nil: nothing.
func infoOf(c *net.TCPConn) (info *unix.TCPInfo) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	err = raw.Control(func(fd uintptr) {
		info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil {
		return nil
	}
	return info
}
