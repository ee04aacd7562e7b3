package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// where tests of services write what a resolver knows.
type book struct {
	t testing.TB
	*Server
}

func (b book) zone(name, gateway string) {
	b.records.setZone(overlaynet.Zone{Network: name, Name: name, Gateways: []netip.Addr{netip.MustParseAddr(gateway)}})
}

func addrList(text string) (out []netip.Addr) {
	for _, a := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// task is a container of a service: "shop/web.1" of "shop/web", called
// shop-web-1; a trailing "!" says that it is not ready.
func (b book) task(network, id, addrs string, shared ...string) {
	id, down := strings.CutSuffix(id, "!")
	name, _, _ := strings.Cut(id, ".")
	b.SetHost(overlaynet.Host{
		Sandbox: id, Network: network, Service: name, Addrs: addrList(addrs), Shared: shared, Ready: !down,
		Names: []string{strings.NewReplacer("/", "-", ".", "-").Replace(id)},
	})
}

func (b book) plain(network, name, addrs string, shared ...string) {
	b.SetHost(overlaynet.Host{Sandbox: name, Network: network, Names: []string{name}, Addrs: addrList(addrs), Shared: shared, Ready: true})
}

func (b book) service(network, name, addrs string, names ...string) {
	b.SetService(overlaynet.Service{Network: network, Service: name, Addrs: addrList(addrs), Names: names})
}

// want checks lines of "ASKER TYPE NAME: ANSWER".
func (b book) want(lines string) {
	b.t.Helper()
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		ask, want, _ := strings.Cut(line, ": ")
		f := strings.Fields(ask)
		if got := lookup(b.t, b.Server, f[0], f[2], dns.StringToType[f[1]]); got != want {
			b.t.Errorf("%s: got %q, want %q", ask, got, want)
		}
	}
}

func TestServices(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("net", "10.1.0.1")
	b.service("net", "shop/web", "10.2.0.1 fd02::1", "web", "WWW", "web.shop")
	b.service("net", "shop/db", "10.2.0.2", "db", "db.shop")
	b.service("net", "shop/each", "", "each", "each.shop") // dnsrr
	b.service("net", "shop/later", "", "later")
	b.task("net", "shop/web.1", "10.1.0.2 fd01::2", "web", "www")
	b.task("net", "shop/web.2", "10.1.0.3 fd01::3", "web", "www", "canary")
	b.task("net", "shop/web.3!", "10.1.0.4", "web", "www")
	b.task("net", "shop/each.1!", "10.1.0.5 169.254.3.3")
	b.task("net", "shop/each.2!", "10.1.0.6 fe80::6")
	b.plain("net", "tool", "10.1.0.9", "helper")
	b.want(`
		10.1.0.9 A web: NOERROR 10.2.0.1
		10.1.0.9 AAAA web: NOERROR fd02::1
		10.1.0.9 ANY web: NOERROR 10.2.0.1 fd02::1
		10.1.0.9 A www: NOERROR 10.2.0.1
		10.1.0.9 A Web.Shop: NOERROR 10.2.0.1
		10.1.0.9 A web.net: NOERROR 10.2.0.1
		10.1.0.9 HTTPS web: NOERROR
		10.1.0.9 A canary: NOERROR 10.1.0.3
		10.1.0.9 A tasks.web: NOERROR 10.1.0.2 10.1.0.3
		10.1.0.9 A tasks.www: NOERROR 10.1.0.2 10.1.0.3
		10.1.0.9 AAAA tasks.web.shop: NOERROR fd01::2 fd01::3
		10.1.0.9 A tasks.web.net: NOERROR 10.1.0.2 10.1.0.3
		10.1.0.9 A shop-web-3: NOERROR 10.1.0.4
		10.1.0.9 A shop-web-3.net: NOERROR 10.1.0.4
		10.1.0.9 A db: NOERROR 10.2.0.2
		10.1.0.9 AAAA db: NOERROR
		10.1.0.9 A tasks.db: NOERROR
		10.1.0.9 A each: NOERROR 10.1.0.5 10.1.0.6
		10.1.0.9 AAAA each: NOERROR
		10.1.0.9 A later: NOERROR
		10.1.0.9 A tasks.tool: SERVFAIL
		10.1.0.9 A helper: NOERROR 10.1.0.9
		10.1.0.2 A web: NOERROR 10.2.0.1
		10.1.0.9 PTR 1.0.2.10.in-addr.arpa: NOERROR web.net.
		10.1.0.9 PTR 3.0.1.10.in-addr.arpa: NOERROR shop-web-2.net.
		10.1.0.9 PTR 1` + strings.Repeat(".0", 27) + `.2.0.d.f.ip6.arpa: NOERROR web.net.
		10.0.1.4 A web.shop: SERVFAIL
		10.0.1.4 A www: NXDOMAIN
	`)
	b.task("net", "shop/each.2", "10.1.0.6")
	b.RemoveHost("shop/web.1", "net")
	b.RemoveHost("shop/web.2", "net")
	b.service("net", "shop/db", "10.2.0.2 fd02::2", "db")
	b.want(`
		10.1.0.9 A each: NOERROR 10.1.0.6
		10.1.0.9 A web: NOERROR 10.2.0.1
		10.1.0.9 A tasks.web: NOERROR 10.1.0.4
		10.1.0.9 AAAA db: NOERROR fd02::2
		10.1.0.9 A canary: NXDOMAIN
	`)
	b.RemoveService("net", "shop/web")
	b.RemoveService("net", "shop/db")
	b.want(`
		10.1.0.9 A web: NOERROR 10.1.0.4
		10.1.0.9 A db: NXDOMAIN
		10.1.0.9 PTR 1.0.2.10.in-addr.arpa: SERVFAIL
	`)
}

// Names that several have: the own stack's service wins, over all networks of
// the asker; a plain container's is beside it; what is ready wins over what is not.
func TestNamesOfSeveral(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("shop_default", "10.1.0.1")
	b.zone("proxy", "10.3.0.1")
	b.service("shop_default", "shop/db", "10.2.0.1", "db")
	b.service("proxy", "shop/web", "10.4.0.1", "web", "web.shop")
	b.service("proxy", "blog/web", "10.4.0.2", "web", "web.blog")
	b.service("proxy", "blog/db", "10.4.0.3", "db", "db.blog")
	b.task("shop_default", "shop/web.1", "10.1.0.2")
	b.task("shop_default", "shop/db.1", "10.1.0.3")
	b.task("proxy", "shop/web.1", "10.3.0.2")
	b.task("proxy", "blog/web.1", "10.3.0.3")
	b.task("proxy", "blog/db.1", "10.3.0.4")
	b.task("proxy", "edge/lb.1", "10.3.0.5")
	b.plain("proxy", "tool", "10.3.0.9")
	b.want(`
		10.3.0.5 A web: NOERROR 10.4.0.1 10.4.0.2
		10.3.0.9 A web: NOERROR 10.4.0.1 10.4.0.2
		10.3.0.9 A web.blog: NOERROR 10.4.0.2
		10.3.0.9 A tasks.web: NOERROR 10.3.0.2 10.3.0.3
		10.3.0.2 A web: NOERROR 10.4.0.1
		10.3.0.3 A web: NOERROR 10.4.0.2
		10.3.0.3 A tasks.web: NOERROR 10.3.0.3
		10.3.0.2 A db: NOERROR 10.2.0.1
		10.1.0.2 A db: NOERROR 10.2.0.1
		10.3.0.2 A db.blog: NOERROR 10.4.0.3
		10.3.0.2 A db.proxy: NOERROR 10.4.0.3
		10.1.0.3 A web: NXDOMAIN
	`)
	b.plain("proxy", "extra", "10.3.0.10", "web")
	b.want(`
		10.3.0.2 A web: NOERROR 10.3.0.10 10.4.0.1
		10.3.0.9 A web: NOERROR 10.3.0.10 10.4.0.1 10.4.0.2
		10.3.0.9 A tasks.web: NOERROR 10.3.0.10 10.3.0.2 10.3.0.3
	`)
	b.RemoveHost("extra", "proxy")
	b.task("proxy", "blog/web.1!", "10.3.0.3")
	b.want(`
		10.3.0.9 A web: NOERROR 10.4.0.1
		10.3.0.3 A web: NOERROR 10.4.0.2
	`)
	b.plain("proxy", "web", "10.3.0.11") // a container that is called like a service
	b.want(`
		10.3.0.2 A web: NOERROR 10.3.0.11 10.4.0.1
		10.3.0.9 A tasks.web: NOERROR 10.3.0.2
	`)
}

// A container that is called like its own service adds nothing to its address;
// a service may be called tasks.
func TestNamesThatLookAlike(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("net", "10.1.0.1")
	b.service("net", "shop/db", "10.2.0.1", "db")
	b.service("net", "shop/tasks", "10.2.0.2", "tasks", "tasks.db")
	b.SetHost(overlaynet.Host{Sandbox: "x", Network: "net", Service: "shop/db", Names: []string{"db"}, Addrs: addrList("10.1.0.2"), Ready: true})
	b.want(`
		10.1.0.2 A db: NOERROR 10.2.0.1
		10.1.0.2 A tasks: NOERROR 10.2.0.2
		10.1.0.2 A tasks.db: NOERROR 10.2.0.2
		10.1.0.2 A tasks.db.net: NOERROR 10.2.0.2
		10.1.0.2 A tasks.tasks: NOERROR
	`)
}

// Programs that listen on the address of their name find it, ready or not.
func TestSingleCallsItselfByItsOwnAddress(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("net", "10.1.0.1")
	b.SetService(overlaynet.Service{Network: "net", Service: "shop/kafka", Addrs: addrList("10.2.0.1 fd02::1"), Names: []string{"kafka"}, Single: true})
	b.task("net", "shop/kafka.1!", "10.1.0.2 fd01::2")
	b.task("net", "shop/web.1", "10.1.0.3")
	b.want(`
		10.1.0.2 A kafka: NOERROR 10.1.0.2
		fd01::2 AAAA kafka: NOERROR fd01::2
		10.1.0.2 A kafka.net: NOERROR 10.1.0.2
		10.1.0.3 A kafka: NOERROR 10.2.0.1
		10.1.0.3 AAAA kafka: NOERROR fd02::1
	`)
}

// Containers of other nodes have names but no questions: what comes from their
// addresses comes from somebody else.
func TestRemoteHostsDoNotAsk(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("net", "10.1.0.1")
	far := overlaynet.Host{Sandbox: "far", Network: "net", Names: []string{"far"}, Addrs: addrList("10.1.0.2"), Remote: true, Ready: true}
	b.SetHost(far)
	b.plain("net", "near", "10.1.0.3")
	b.want(`
		10.1.0.3 A far: NOERROR 10.1.0.2
		10.1.0.2 A near: REFUSED
	`)
	far.Remote = false // it is the same one here now
	b.SetHost(far)
	b.want("10.1.0.2 A near: NOERROR 10.1.0.3")
	far.Remote = true
	b.SetHost(far)
	b.want("10.1.0.2 A near: REFUSED")
}

// The same address in two networks of the node means two containers: the
// gateway that is asked tells which.
func TestAskersWithOneAddress(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("one", "10.1.0.1")
	b.zone("two", "10.1.0.129")
	b.plain("one", "a", "10.1.0.2")
	b.plain("two", "b", "10.1.0.2")
	for gateway, want := range map[string]string{"10.1.0.1": "a.one.", "10.1.0.129": "b.two."} {
		m := asked(t, b.Server, newQuestion("2.0.1.10.in-addr.arpa", dns.TypePTR), "10.1.0.2", gateway, false)
		if len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != want {
			t.Errorf("at %s: %v", gateway, m)
		}
	}
}

// A replaced container's names are never missing while the change is made.
func TestNoGapWhileReplaced(t *testing.T) {
	b := book{t, fixture(t)}
	b.zone("net", "10.1.0.1")
	b.service("net", "shop/web", "", "web")
	b.plain("net", "tool", "10.1.0.9")
	b.task("net", "shop/web.1", "10.1.0.2", "alias")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				b.task("net", "shop/web.1"+strings.Repeat("!", i%2), "10.1.0.2", "alias")
				b.service("net", "shop/web", "", "web")
			}
		}
	}()
	for i := range 3000 {
		name := []string{"web", "alias", "tasks.web", "shop-web-1"}[i%4]
		for _, from := range []string{"10.1.0.9", "10.1.0.2"} {
			if got := lookup(t, b.Server, from, name, dns.TypeA); got != "NOERROR 10.1.0.2" {
				t.Fatal(fmt.Sprint(from, " asks for ", name, ": ", got))
			}
		}
	}
	close(stop)
	<-done
}
