package dns

import (
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	askTime  = 2 * time.Second // per server
	askMost  = 512             // questions under way at once
	badMost  = 256
	badTime  = 30 * time.Second // how long a server that did not answer is asked last
	stubFile = "/run/systemd/resolve/resolv.conf"
)

// upstream asks the world.
type upstream struct {
	path  string
	slots chan struct{}

	mu      sync.Mutex
	mtime   time.Time // guarded by mu: of path when servers was read
	servers []string  // guarded by mu: "10.0.0.1:53"

	bad map[string]time.Time // guarded by mu: servers that did not answer, and until when they are asked last
}

func newUpstream(path string) *upstream {
	return &upstream{path: path, slots: make(chan struct{}, askMost), bad: map[string]time.Time{}}
}

// host returns the host's resolvers, read again when the file has changed.
// Behind the local stub of systemd-resolved come the servers that it uses,
// for a daemon whose namespace the stub does not serve.
func (u *upstream) host() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	st, err := os.Stat(u.path)
	if err != nil {
		return u.servers
	}
	if u.servers != nil && st.ModTime().Equal(u.mtime) {
		return u.servers
	}
	servers := nameservers(u.path)
	for _, s := range servers {
		if strings.HasPrefix(s, "127.") {
			servers = append(servers, nameservers(stubFile)...)
			break
		}
	}
	u.servers, u.mtime = servers, st.ModTime()
	return servers
}

func nameservers(path string) (out []string) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			out = append(out, withPort(f[1]))
		}
	}
	return out
}

func withPort(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	return net.JoinHostPort(s, "53")
}

// exchange asks the servers in turn, over the protocol that the container
// used; it always returns a reply.
func (u *upstream) exchange(q *dns.Msg, servers []string, tcp bool) *dns.Msg {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		return fail(q, dns.RcodeServerFailure)
	}
	if len(servers) == 0 {
		servers = u.host()
	}
	servers = u.goodFirst(servers)
	network := "udp"
	if tcp {
		network = "tcp"
	}
	c := &dns.Client{Net: network, Timeout: askTime, UDPSize: dns.MaxMsgSize}
	ask := q.Copy()
	var refused *dns.Msg
	for _, s := range servers {
		ask.Id = dns.Id()
		m, _, err := c.Exchange(ask, s)
		u.answered(s, err == nil)
		if err != nil || m == nil {
			continue
		}
		m.Id = q.Id
		if m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused {
			refused = m
			continue
		}
		return m
	}
	if refused != nil {
		return refused
	}
	return fail(q, dns.RcodeServerFailure)
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
	} else {
		if len(u.bad) > badMost { // containers may name any
			clear(u.bad)
		}
		u.bad[server] = time.Now().Add(badTime)
	}
}
