package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// What of RFC 1035, 3596 and 6891 is read and written here. Questions are read
// in place and answers written behind a copy of the question, since names that
// are ours need no more; what others answer passes through untouched.
const (
	typeA    = 1
	typeNS   = 2
	typeSOA  = 6
	typePTR  = 12
	typeAAAA = 28
	typeOPT  = 41
	typeDS   = 43
	typeNSEC = 47
	typeKEY  = 48 // DNSKEY
	typeN3P  = 51 // NSEC3PARAM
	typeIXFR = 251
	typeAXFR = 252
	typeANY  = 255

	classIN  = 1
	classANY = 255

	codeOK       = 0
	codeFormat   = 1
	codeFailed   = 2
	codeNoName   = 3
	codeNotImpl  = 4
	codeRefused  = 5
	codeBadVers  = 16
	headerSize   = 12
	plainSize    = 512  // most bytes over UDP without EDNS
	ednsSize     = 4096 // most bytes over UDP that we take and give
	messageSize  = 65535
	optSize      = 11
	flagResponse = 0x8000
	flagAuth     = 0x0400
	flagTrunc    = 0x0200
	flagRecurse  = 0x0100
	flagAvail    = 0x0080
	flagDo       = 0x8000 // in OPT's TTL
)

// question is a packet that asks one thing.
type question struct {
	packet []byte // whole
	end    int    // of the question's section
	name   string // lower case, no final dot
	kind   uint16
	class  uint16
	edns   bool
	size   int    // most bytes of the answer over UDP
	more   uint32 // OPT's TTL: extended code, version, flags
}

// readQuestion reads a packet; another code than codeOK is the answer to it.
// The packet has a header.
func readQuestion(packet []byte) (q question, code int) {
	q = question{packet: packet, end: headerSize, size: plainSize}
	if flags := binary.BigEndian.Uint16(packet[2:]); flags>>11&15 != 0 {
		return q, codeNotImpl
	}
	if binary.BigEndian.Uint16(packet[4:]) != 1 {
		return q, codeFormat
	}
	var name [256]byte
	text, at, ok := readName(packet, headerSize, name[:0])
	if !ok || at+4 > len(packet) {
		return q, codeFormat
	}
	q.name = string(text)
	q.kind, q.class = binary.BigEndian.Uint16(packet[at:]), binary.BigEndian.Uint16(packet[at+2:])
	q.end = at + 4
	if !q.readOPT() {
		q.end = headerSize
		return q, codeFormat
	}
	return q, codeOK
}

// readName reads an uncompressed name, as questions have it: lower case, with
// dots between. A label with a dot in itself is refused: it would pass for two.
func readName(b []byte, at int, text []byte) (_ []byte, next int, ok bool) {
	for {
		if at >= len(b) {
			return nil, 0, false
		}
		n := int(b[at])
		at++
		if n == 0 {
			return text, at, true
		}
		if n > 63 || at+n > len(b) || len(text)+n+1 > 254 {
			return nil, 0, false
		}
		if len(text) > 0 {
			text = append(text, '.')
		}
		for _, c := range b[at : at+n] {
			if c == '.' {
				return nil, 0, false
			}
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			text = append(text, c)
		}
		at += n
	}
}

// readOPT looks for the EDNS record behind the question.
func (q *question) readOPT() bool {
	b, at := q.packet, q.end
	count := 0
	for i := 6; i < headerSize; i += 2 {
		count += int(binary.BigEndian.Uint16(b[i:]))
	}
	for range count {
		start := at
		at = skipName(b, at)
		if at < 0 || at+10 > len(b) {
			return false
		}
		if binary.BigEndian.Uint16(b[at:]) == typeOPT {
			if q.edns || at != start+1 { // one, of the root
				return false
			}
			q.edns = true
			q.size = min(max(int(binary.BigEndian.Uint16(b[at+2:])), plainSize), ednsSize)
			q.more = binary.BigEndian.Uint32(b[at+4:])
		}
		at += 10 + int(binary.BigEndian.Uint16(b[at+8:]))
		if at > len(b) {
			return false
		}
	}
	return true
}

// skipName returns where a name that may be compressed ends; -1: nowhere.
func skipName(b []byte, at int) int {
	for at < len(b) {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1
		case n >= 0xc0:
			return at + 2
		case n > 63:
			return -1
		default:
			at += n + 1
		}
	}
	return -1
}

// reply is an answer under construction; its names are the question's.
type reply struct {
	out   []byte
	limit int // bytes
	count uint16
	edns  bool
}

// begin writes the header and the question as it came, in its own case.
func (q *question) begin(out []byte, code int, tcp bool) *reply {
	r := &reply{out: append(out[:0], q.packet[:q.end]...), limit: messageSize, edns: q.edns}
	asked := binary.BigEndian.Uint16(q.packet[2:])
	flags := flagResponse | flagAvail | asked&(0x7800|flagRecurse) | uint16(code&15)
	binary.BigEndian.PutUint16(r.out[2:], flags)
	clear(r.out[4:headerSize])
	if q.end > headerSize {
		r.out[5] = 1
	}
	if !tcp {
		r.limit = q.size
	}
	if q.edns {
		r.limit -= optSize
	}
	return r
}

// add writes one record with n bytes of data, which the caller fills in; nil
// when there is no room: the answer is truncated then.
func (r *reply) add(kind uint16, n int) []byte {
	if len(r.out)+12+n > r.limit {
		r.out[2] |= flagTrunc >> 8
		return nil
	}
	r.out = append(r.out, 0xc0, headerSize, byte(kind>>8), byte(kind), 0, classIN, 0, 0, 0, ttl, byte(n>>8), byte(n))
	at := len(r.out)
	r.out = append(r.out, make([]byte, n)...)
	r.count++
	return r.out[at:]
}

// finish writes the counts and answers EDNS with EDNS.
func (r *reply) finish(q *question, code int) []byte {
	binary.BigEndian.PutUint16(r.out[6:], r.count)
	if r.edns {
		r.out = append(r.out, 0, 0, typeOPT, ednsSize>>8, ednsSize&255, byte(code>>4), 0, byte(q.more>>8)&(flagDo>>8), 0, 0, 0)
		r.out[11] = 1
	}
	return r.out
}

// fail is an answer without records.
func (q *question) fail(out []byte, code int) []byte {
	return q.begin(out, code, true).finish(q, code)
}

// packName returns the wire form of a name; nil when it has none.
func packName(name string) []byte {
	out := make([]byte, 0, len(name)+2)
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return nil
		}
		out = append(append(out, byte(len(label))), label...)
	}
	if out = append(out, 0); len(out) > 255 {
		return nil
	}
	return out
}

// reverseAddr reads "5.0.18.172.in-addr.arpa" and its IPv6 sister.
func reverseAddr(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(v4, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range 32 {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteByte(v6[62-2*i])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil && !a.Is4In6()
}
