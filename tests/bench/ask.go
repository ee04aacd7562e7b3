package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// ask measures n questions of the type A for a name, one after the other, to
// the resolver of a place.
func (p place) ask(resolver, name string, n int) (samples, error) {
	out := make(samples, 0, n)
	err := p.inside(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(resolver, "53"))
		if err != nil {
			return err
		}
		defer c.Close()
		buf := make([]byte, 1500)
		for i := range n {
			q := question(uint16(i), name)
			start := time.Now()
			if err := c.SetDeadline(start.Add(2 * time.Second)); err != nil {
				return err
			}
			if _, err := c.Write(q); err != nil {
				return err
			}
			size, err := c.Read(buf)
			if err != nil {
				return fmt.Errorf("question %d: %w", i, err)
			}
			out = append(out, time.Since(start))
			if size < 12 || binary.BigEndian.Uint16(buf) != uint16(i) || binary.BigEndian.Uint16(buf[6:]) == 0 {
				return errors.New("the answer has no address")
			}
		}
		return nil
	})
	return out, err
}

// question is a DNS message (RFC 1035, section 4).
func question(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}
