package overlaynet_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// What the C library asks with the resolv.conf that containers get: a service's
// name is never sent to the world with a search domain behind it, one that is
// nobody's is. Domains with resolvers of their own change under a container that runs.
func TestSearchAndForwardedDomains(t *testing.T) {
	if !inHost(t) {
		return
	}
	world, corp := newRecorder(t, "192.0.2.1"), newRecorder(t, "192.0.2.2")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+world.addr+"\n"), 0o600))
	def := bridgeNet("front", "10.70.1.0/24")
	src := newSource(def)
	n := newNode(t, dir, src)
	c := n.connect(overlaynet.Sandbox{ID: "a", Attachments: []stack.Attachment{{Network: "front", Aliases: []string{"web"}}}})

	// The test's own process has a mount namespace to itself.
	conf := filepath.Join(dir, "container.conf")
	must(t, os.WriteFile(conf, []byte("nameserver "+c.Nameservers[0]+"\nsearch corp.example\noptions ndots:0\n"), 0o600))
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	getent := func(database, name string) string {
		out, _ := exec.Command("nsenter", "--net="+c.NetNS, "getent", database, name).Output()
		first, _, _ := strings.Cut(string(out), " ")
		return first
	}
	for _, c := range []struct{ database, name, want, asked string }{
		{"ahosts", "web", ip(c, 0), ""},
		{"ahostsv4", "web", ip(c, 0), ""},
		{"ahosts", "web.front", ip(c, 0), ""},
		{"ahosts", "intranet", "192.0.2.1", "intranet.corp.example."},
		{"ahosts", "www.example.org", "192.0.2.1", "www.example.org."},
	} {
		if got := getent(c.database, c.name); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.database, c.name, got, c.want)
		}
		if asked := world.take(); asked != c.asked {
			t.Errorf("%s %s: the world was asked %q, want %q", c.database, c.name, asked, c.asked)
		}
	}
	def.Forward = map[string][]string{"corp.example": {corp.addr}}
	src.set(def)
	until(t, "the domain's own resolver", func() bool { return getent("ahosts", "intranet") == "192.0.2.2" })
	world.take()
	if got, asked := getent("ahosts", "intranet.corp.example"), world.take(); got != "192.0.2.2" || asked != "" {
		t.Errorf("got %q, the world was asked %q", got, asked)
	}
	def.Forward = nil
	src.set(def)
	until(t, "the world again", func() bool { return getent("ahosts", "intranet") == "192.0.2.1" })
}

// recorder is a server that answers every A question alike and remembers what
// it was asked.
type recorder struct {
	addr string
	mu   sync.Mutex
	seen []string
}

func newRecorder(t testing.TB, with string) *recorder {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	r := &recorder{addr: pc.LocalAddr().String()}
	srv := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		r.mu.Lock()
		if name := strings.ToLower(q.Question[0].Name); !slices.Contains(r.seen, name) {
			r.seen = append(r.seen, name)
		}
		r.mu.Unlock()
		m := new(mdns.Msg).SetReply(q)
		if q.Question[0].Qtype == mdns.TypeA {
			rr, err := mdns.NewRR(fmt.Sprintf("%s 60 IN A %s", q.Question[0].Name, with))
			if err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	up := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(up) }
	go srv.ActivateAndServe()
	<-up
	t.Cleanup(func() { pc.Close() })
	return r
}

// take returns the names that were asked since the last call.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.seen, " ")
	r.seen = nil
	return out
}
