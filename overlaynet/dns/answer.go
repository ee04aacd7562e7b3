package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"
)

// ttl is how many seconds an answer may be remembered: names move at once.
const ttl = 1

// errand is a question for the world.
type errand struct {
	question
	tcp     bool
	who     *box
	servers []string // in the order in which they are asked; none: the node's
}

// answer returns the reply to a packet, written over out; nil to say nothing.
// What others must be asked comes back as an errand instead.
func (s *Server) answer(packet []byte, from, at netip.Addr, tcp bool, out []byte) ([]byte, *errand) {
	if len(packet) < headerSize || packet[2]&0x80 != 0 {
		return nil, nil // too short to answer, or an answer itself
	}
	q, code := readQuestion(packet)
	if code != codeOK {
		return q.fail(out, code), nil
	}
	a, ok := s.records.who(from, at)
	switch {
	case !ok: // not a container of ours
		return q.fail(out, codeRefused), nil
	case q.class != classIN && q.class != classANY, q.kind == typeAXFR, q.kind == typeIXFR:
		return q.fail(out, codeRefused), nil
	case q.more>>16&255 != 0: // EDNS of a later version
		return q.fail(out, codeBadVers), nil
	}
	if reply := s.ours(&q, a, tcp, out); reply != nil {
		return reply, nil
	}
	servers, known := s.forward(q.name, a)
	switch {
	case known:
	case ofOneLabel(&q):
		return q.fail(out, codeNoName), nil
	case !a.outside():
		// Not REFUSED: musl waits for a better answer then, five seconds long.
		return q.fail(out, codeNoName), nil
	}
	return nil, &errand{question: q, tcp: tcp, who: a.me.box, servers: servers}
}

// ofOneLabel tells of names that no server of the world is to hear: those of
// services that are not there. What validating resolvers ask of top-level
// domains, which have one label too, passes.
func ofOneLabel(q *question) bool {
	switch q.kind {
	case typeNS, typeSOA, typeDS, typeKEY, typeNSEC, typeN3P:
		return false
	}
	return q.name != "" && !strings.Contains(q.name, ".")
}

// ours answers from our records; nil when the name is none of ours.
func (s *Server) ours(q *question, a asker, tcp bool, out []byte) []byte {
	if addr, ok := reverseAddr(q.name); ok {
		target, known := a.reverse(addr)
		if !known {
			return nil
		}
		r := q.begin(out, codeOK, tcp)
		if name := packName(target); name != nil && (q.kind == typePTR || q.kind == typeANY) {
			copy(r.add(typePTR, len(name)), name)
		}
		return r.finish(q, codeOK)
	}
	var room [4]found
	all := a.lookup(q.name, room[:0])
	if len(all) == 0 {
		return nil
	}
	r := q.begin(out, codeOK, tcp)
	r.addresses(q.kind, all)
	return r.finish(q, codeOK)
}

// addresses writes those that are asked for, in random order: whoever takes
// the first, or sees the first few of a truncated answer, finds another every time.
func (r *reply) addresses(kind uint16, all []found) {
	if kind != typeA && kind != typeAAAA && kind != typeANY {
		return
	}
	var first addrs
	for i, f := range all {
		l := f.list()
		if i == 0 {
			first = l
			continue
		}
		first = addrs{join(first.v4, l.v4), join(first.v6, l.v6)}
	}
	if kind != typeAAAA {
		r.shuffled(typeA, first.v4)
	}
	if kind != typeA {
		r.shuffled(typeAAAA, first.v6)
	}
}

// shuffled writes addresses until there is no more room.
func (r *reply) shuffled(kind uint16, list []netip.Addr) {
	var room [16]uint16
	order := room[:0]
	for i := range min(len(list), 1<<16) {
		order = append(order, uint16(i))
	}
	for i := range order {
		j := i + rand.IntN(len(order)-i)
		order[i], order[j] = order[j], order[i]
		a := list[order[i]]
		if kind == typeA {
			b := r.add(kind, 4)
			if b == nil {
				return
			}
			v := a.As4()
			copy(b, v[:])
			continue
		}
		b := r.add(kind, 16)
		if b == nil {
			return
		}
		v := a.As16()
		copy(b, v[:])
	}
}

// join returns a with what of b is not in it; both stay as they are.
func join(a, b []netip.Addr) []netip.Addr {
	if len(a) == 0 {
		return b
	}
	seen := make(map[netip.Addr]bool, len(a))
	for _, x := range a {
		seen[x] = true
	}
	a = a[:len(a):len(a)]
	for _, x := range b {
		if !seen[x] {
			a = append(a, x)
		}
	}
	return a
}
