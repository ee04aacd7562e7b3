package dns

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	askTime = 2 * time.Second // per server
	askMost = 1024            // questions under way at once
	askOne  = 256             // of one container
	badMost = 256
	badTime = 30 * time.Second // how long a server that did not answer is asked last
)

// upstream asks the world.
type upstream struct {
	host    *hostFile
	errands sync.WaitGroup // under way

	mu      sync.Mutex
	under   map[*box]int         // guarded by mu: errands under way by container
	total   int                  // guarded by mu: of all
	flights map[string]*flight   // guarded by mu: questions under way, by what they ask whom
	bad     map[string]time.Time // guarded by mu: servers that did not answer, and until when they are asked last
}

// flight is a question that is under way for one or several askers.
type flight struct {
	aboard int // guarded by upstream.mu: how many wait for it
	done   chan struct{}
	reply  []byte // nil: nobody answered; set before done is closed
	cut    bool   // the asker's network went before anybody could answer; set before done is closed
}

func newUpstream(path string) *upstream {
	return &upstream{host: &hostFile{path: path}, under: map[*box]int{}, flights: map[string]*flight{}, bad: map[string]time.Time{}}
}

// start asks, until ctx ends, and hands the reply to done, later and from
// another goroutine. It returns a reply itself, and does not ask, when too much
// is under way.
func (u *upstream) start(ctx context.Context, e *errand, done func([]byte)) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.total >= askMost || u.under[e.who] >= askOne {
		return e.fail(nil, codeFailed)
	}
	u.total++
	u.under[e.who]++
	u.errands.Go(func() {
		reply := u.exchange(ctx, e)
		u.ended(e.who)
		done(reply)
	})
	return nil
}

func (u *upstream) ended(who *box) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total--
	if u.under[who]--; u.under[who] == 0 {
		delete(u.under, who)
	}
}

// exchange always returns a reply. The same question of several askers, or of
// one that asks again, is put once.
func (u *upstream) exchange(ctx context.Context, e *errand) []byte {
	servers := e.servers
	if len(servers) == 0 {
		servers = u.host.servers()
	}
	key := e.key(servers)
	f, leads := u.board(key)
	for ; !leads; f, leads = u.board(key) { // and again if the first one may not go on
		select {
		case <-f.done:
		case <-ctx.Done():
			return e.fail(nil, codeFailed)
		}
		if !f.cut {
			break
		}
	}
	if leads {
		f.reply = u.ask(ctx, e, servers)
		f.cut = ctx.Err() != nil && f.reply == nil
		u.mu.Lock()
		delete(u.flights, key)
		u.mu.Unlock()
		close(f.done)
	}
	if f.reply == nil {
		return e.fail(nil, codeFailed)
	}
	return e.fit(e.own(f.reply))
}

// key is what makes a question the same as another.
func (e *errand) key(servers []string) string {
	network := "udp "
	if e.tcp {
		network = "tcp "
	}
	return network + strings.Join(servers, " ") + "\x00" + string(e.packet[2:])
}

// board returns the flight of a question; leads: it is new, and the caller's.
func (u *upstream) board(key string) (f *flight, leads bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f = u.flights[key]; f == nil {
		f, leads = &flight{done: make(chan struct{})}, true
		u.flights[key] = f
	}
	f.aboard++
	return f, leads
}

// own is a copy of a reply with the asker's number, and its way to write the name.
func (e *errand) own(reply []byte) []byte {
	reply = slices.Clone(reply)
	copy(reply, e.packet[:2])
	copy(reply[headerSize:e.end], e.packet[headerSize:e.end])
	return reply
}

// ask puts the question to the servers in turn; nil: nobody answered.
func (u *upstream) ask(ctx context.Context, e *errand, servers []string) (refused []byte) {
	for _, s := range u.goodFirst(servers) {
		m, err := e.put(ctx, s)
		if err != nil && ctx.Err() != nil {
			return nil // which says nothing of the server
		}
		u.answered(s, err == nil)
		if err != nil {
			continue
		}
		if code := m[3] & 15; code == codeFailed || code == codeRefused {
			refused = m
			continue
		}
		return m
	}
	return refused
}

// fit truncates what is too long for the asker: to the question.
func (e *errand) fit(reply []byte) []byte {
	if e.tcp || len(reply) <= e.size {
		return reply
	}
	flags := binary.BigEndian.Uint16(reply[2:]) | flagTrunc
	r := e.begin(nil, codeOK, false)
	binary.BigEndian.PutUint16(r.out[2:], flags)
	return r.finish(&e.question, codeOK)
}

// goodFirst orders the servers, so that one that is down costs its timeout to
// one question and not to all.
func (u *upstream) goodFirst(servers []string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var good, bad []string
	for _, s := range servers {
		s = withPort(s)
		if until, ok := u.bad[s]; ok && time.Now().Before(until) {
			bad = append(bad, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, bad...)
}

func (u *upstream) answered(server string, did bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if did {
		delete(u.bad, server)
		return
	}
	if len(u.bad) > badMost { // containers may name any
		clear(u.bad)
	}
	u.bad[server] = time.Now().Add(badTime)
}
