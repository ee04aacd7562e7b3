package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

var errNoReply = errors.New("no answer to this question")

// packets are for what servers answer, which may be longer than was agreed.
var packets = sync.Pool{New: func() any { b := make([]byte, messageSize); return &b }}

// put asks one server, which has askTime: over UDP, and whole over TCP when
// that is truncated and the asker came over TCP himself. To one that came over
// UDP the truncated answer is passed on: he comes back over TCP if he minds.
func (e *errand) put(ctx context.Context, server string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	ask := slices.Clone(e.packet)
	binary.BigEndian.PutUint16(ask, uint16(rand.Uint32())) //nolint:gosec // the generator is seeded by the system and cannot be predicted
	m, err := e.overUDP(ctx, server, ask)
	if err == nil && m[2]&(flagTrunc>>8) != 0 && e.tcp {
		if whole, err := e.overTCP(ctx, server, ask); err == nil {
			return whole, nil
		}
	}
	return m, err
}

// dial connects, until ctx ends.
func dial(ctx context.Context, network, server string) (net.Conn, func(), error) {
	c, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { stop(); c.Close() }, nil
}

// overUDP takes the first packet that answers the question; each has a socket
// and thereby a port of its own, which somebody who makes up answers must guess.
func (e *errand) overUDP(ctx context.Context, server string, ask []byte) ([]byte, error) {
	c, end, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer end()
	if _, err := c.Write(ask); err != nil {
		return nil, err
	}
	b := packets.Get().(*[]byte)
	defer packets.Put(b)
	for {
		n, err := c.Read(*b)
		if err != nil {
			return nil, err
		}
		if m := e.accept((*b)[:n], ask); m != nil {
			return m, nil
		}
	}
}

func (e *errand) overTCP(ctx context.Context, server string, ask []byte) ([]byte, error) {
	c, end, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := writeTCP(c, ask); err != nil {
		return nil, err
	}
	m, err := readTCP(c, nil)
	if err != nil {
		return nil, err
	}
	if m = e.accept(m, ask); m == nil {
		return nil, errNoReply
	}
	return m, nil
}

// accept returns m if it is a reply to the question, and none to another that
// came late or was made up; nil otherwise. In what letters a server repeats the
// question is its business. One that understands nothing may leave it out.
func (e *errand) accept(m, ask []byte) []byte {
	switch {
	case len(m) < headerSize || m[0] != ask[0] || m[1] != ask[1] || m[2]&0x80 == 0:
		return nil
	case m[4] == 0 && m[5] == 0 && m[3]&15 != codeOK:
		return e.fail(nil, int(m[3]&15))
	case m[4] == 0 && m[5] == 1 && len(m) >= e.end && bytes.Equal(m[e.end-4:e.end], ask[e.end-4:e.end]) &&
		bytes.EqualFold(m[headerSize:e.end-4], ask[headerSize:e.end-4]):
		return slices.Clone(m)
	}
	return nil
}
