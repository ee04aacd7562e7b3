package cluster

import (
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// misnamed asks the resolvers of all networks, from within each container of a
// host, for all names of the network, and says which answers are wrong.
func (w *world) misnamed(h *netlab.Host) (out []string) {
	for name, v := range w.networks {
		mine, _ := w.sides(v, h)
		for _, asker := range mine {
			for _, sn := range v.Network.Subnets {
				wrong, err := w.askAll(h, v, asker, sn.Gateway)
				if err != nil {
					wrong = append(wrong, err.Error())
				}
				for _, x := range wrong {
					out = append(out, fmt.Sprintf("%s asks %s of net %s: %s", asker.Name, sn.Gateway, name, x))
				}
			}
		}
	}
	return out
}

// askAll asks one resolver for all names of a network.
func (w *world) askAll(h *netlab.Host, v stack.NetworkView, asker stack.Endpoint, server string) (wrong []string, err error) {
	c := &dns.Conn{}
	err = netlab.Inside(h.NamespaceOf(asker.Container), func() (err error) {
		c.Conn, err = net.Dial("udp", net.JoinHostPort(server, "53"))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for name, want := range w.names(v, asker) {
		for i, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			got, err := resolve(c, name+"."+v.Network.Name, kind)
			if err != nil {
				return wrong, err
			}
			if targets(got) != targets(want[i]) {
				wrong = append(wrong, fmt.Sprintf("%s %s is %s, not %s", dns.TypeToString[kind], name, targets(got), targets(want[i])))
			}
		}
	}
	return wrong, nil
}

// names are all of a network and what they mean for a container in it: IPv4 and
// IPv6 addresses.
func (w *world) names(v stack.NetworkView, asker stack.Endpoint) map[string][2][]string {
	out := map[string][2][]string{}
	shared := map[string]int{}
	for _, s := range v.Services {
		var tasks []stack.Endpoint
		for _, e := range v.Endpoints {
			if e.Service == s.Service {
				tasks = append(tasks, e)
			}
		}
		each := addressesOf(pool(tasks))
		whole := each
		switch {
		case s.Single && asker.Service == s.Service:
			whole = addressesOf([]stack.Endpoint{asker})
		case s.IPv4+s.IPv6 != "":
			whole = addressesOf([]stack.Endpoint{{IPv4: s.IPv4, IPv6: s.IPv6}})
		}
		for _, n := range s.Names {
			out[n], out["tasks."+n] = whole, each
			shared[n]++
		}
	}
	for n, count := range shared {
		if count > 1 { // several services have it: who means which is a test of its own
			delete(out, n)
			delete(out, "tasks."+n)
		}
	}
	named := map[string][]stack.Endpoint{} // the tasks of a global service are called alike
	for _, e := range v.Endpoints {
		if e.Up && shared[e.Name] == 0 {
			named[e.Name] = append(named[e.Name], e)
		}
	}
	for n, list := range named {
		out[n] = addressesOf(list)
	}
	return out
}

func addressesOf(list []stack.Endpoint) (out [2][]string) {
	for _, e := range list {
		for i, a := range []string{e.IPv4, e.IPv6} {
			if a != "" {
				out[i] = append(out[i], a)
			}
		}
	}
	return out
}

// resolve asks for addresses; a name that does not exist has none.
func resolve(c *dns.Conn, name string, kind uint16) (out []string, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(4096, false)
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		a, err := c.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", name, err)
		}
		if a.Id != q.Id {
			continue
		}
		for _, rr := range a.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				out = append(out, rr.A.String())
			case *dns.AAAA:
				out = append(out, rr.AAAA.String())
			}
		}
		slices.Sort(out)
		return out, nil
	}
}
