package cluster

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// bulk is a stack whose one task sends 20 MB to whoever connects, and which
// somebody asks on each node.
const bulk = `
name: bulk
services:
  big:
    image: python:3
    command: %s
    init: true
    stop_grace_period: 1s
    ports: ["8085:85"]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
  web:
    image: python:3
    command: %s
    init: true
    stop_grace_period: 1s
    ports: ["8080:80"]
    deploy: {mode: global}
  probe:
    image: python:3
    command: [sleep, infinity]
    init: true
    stop_grace_period: 1s
    deploy: {mode: global}
`

const sendsMuch = `
import socket, threading
def send(s):
    with s: s.sendall(bytes(20_000_000))
with socket.create_server(("", 85)) as l:
    while True: threading.Thread(target=send, args=(l.accept()[0],)).start()
`

// takesMuch is a program for python:3 that prints how many bytes HOST PORT sends.
const takesMuch = `
import socket, sys
s, n = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5), 0
s.settimeout(5)
while d := s.recv(1 << 20): n += len(d)
print(n)
`

// streams takes what big sends, in a container on each host and through a
// published port of each.
func (c *C) streams(client *netlab.Host) {
	c.Helper()
	for _, h := range c.Hosts {
		c.Says(20*time.Second, h, "probe", "20000000", "python3", "-c", takesMuch, "big", "85")
		netlab.Eventually(c, 20*time.Second, "all comes through the port of "+h.Name, func() error {
			if r := client.Exec("python3", "-c", takesMuch, h.Addr, "8085"); r.Stdout != "20000000\n" {
				return fmt.Errorf("it says %q: %w", r.Stdout, r.Err())
			}
			return nil
		})
	}
}

// serve checks names, virtual addresses and published ports on all hosts.
func (c *C) serve(client *netlab.Host) {
	c.Helper()
	for _, h := range c.Hosts {
		c.Says(20*time.Second, h, "probe", " ", "python3", "-c", fetch, strconv.Itoa(2*len(c.Hosts)), "http://web/")
		c.sees(client, h.Addr, "8080", client.Addr)
	}
}

// sent is how many bytes a host has sent on a link.
func sent(t testing.TB, h *netlab.Host, device string) int {
	t.Helper()
	r := h.Exec("cat", "/proc/self/net/dev")
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 9 && f[0] == device+":" {
			n, err := strconv.Atoi(f[9])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no link %s: %v", h.Name, device, r.Err())
	return 0
}

// mtu waits until the containers of a service have an MTU on all hosts, also those that run.
func (c *C) mtu(service, want string) {
	c.Helper()
	for _, h := range c.Hosts {
		c.Says(20*time.Second, h, service, want+"\n", "cat", "/sys/class/net/eth0/mtu")
	}
}

func TestTrafficHasALinkOfItsOwn(t *testing.T) {
	c := New(t, "containers' traffic takes the link, UDP port, identifiers and address pools that the cluster was given, and follows the link's address and MTU", 0, 0)
	for range 3 {
		h := c.Lab.Host()
		h.Load("python:3")
		c.Hosts = append(c.Hosts, h)
	}
	a, b, w := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	data := c.Lab.SecondLink(c.Hosts...)
	client := c.Lab.Client()
	c.Step("a cluster, one of whose machines has a range of the pool as its LAN", func() {
		w.IP("link", "add", "lan", "type", "bridge")
		w.IP("addr", "add", "172.19.0.1/21", "dev", "lan")
		w.IP("link", "set", "lan", "up")
		c.Run(a, "swarm", "init", "--advertise-addr", a.Addr, "--data-path-addr", data[0], "--data-path-port", "7789",
			"--default-addr-pool", "172.19.0.0/16", "--default-addr-pool-mask-length", "22")
		c.Run(a, "swarm", "update", "--vni-range", "5000-5999")
		for i, h := range []*netlab.Host{b, w} {
			how := []string{data[1], "eth1"}[i]
			c.Run(h, "swarm", "join", "--token", a.Token("worker"), "--data-path-addr", how, a.Addr+":2377")
		}
		c.Compose(fmt.Sprintf(bulk, python(sendsMuch), b.Name, python(mirror)))
		c.Run(a, "up", "-d", "--wait")
	})
	c.Step("addresses and identifiers are those of the cluster, without the range of the LAN", func() {
		lan, pool := netip.MustParsePrefix("172.19.0.0/21"), netip.MustParsePrefix("172.19.0.0/16")
		mesh := strings.TrimSpace(c.Run(w, "network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "ingress"))
		if p, err := netip.ParsePrefix(strings.Fields(mesh)[0]); err != nil || lan.Overlaps(p) || !pool.Overlaps(p) {
			t.Errorf("the ingress network, which was there before the LAN was known, has %s: want a range of %s, and none of %s", mesh, pool, lan)
		}
		f := strings.Fields(c.Run(w, "network", "inspect", "--format", "{{.VNI}} {{range .IPAM.Config}}{{.Subnet}} {{end}}{{range .Virtual}}{{.}} {{end}}", "bulk_default"))
		if vni, err := strconv.Atoi(f[0]); err != nil || vni < 5000 || vni > 5999 || len(f) != 3 {
			t.Fatalf("network inspect: %v", f)
		}
		for _, s := range f[1:] {
			if p, err := netip.ParsePrefix(s); err != nil || lan.Overlaps(p) || !pool.Overlaps(p) {
				t.Errorf("range %s: want one of %s, and none of %s", s, pool, lan)
			}
		}
	})
	c.Step("traffic takes the second link", func() {
		before := map[string]int{}
		for _, dev := range []string{"eth0", "eth1"} {
			before[dev] = sent(t, b, dev)
		}
		for _, h := range []*netlab.Host{a, w} {
			c.Says(20*time.Second, h, "probe", "20000000", "python3", "-c", takesMuch, "big", "85")
			if r := client.Exec("python3", "-c", takesMuch, h.Addr, "8085"); r.Stdout != "20000000\n" {
				t.Errorf("%s: %q: %v", h.Name, r.Stdout, r.Err())
			}
		}
		one, two := sent(t, b, "eth0")-before["eth0"], sent(t, b, "eth1")-before["eth1"]
		t.Logf("  eth0: %d bytes, eth1: %d bytes", one, two)
		if one > 5_000_000 || two < 80_000_000 {
			t.Errorf("%s sent %d bytes on eth0 and %d on eth1, want 80 MB on eth1", b.Name, one, two)
		}
		if r := b.Exec("ip", "-d", "link", "show", "type", "vxlan"); strings.Count(r.Stdout, "dstport 7789") != 2 || strings.Count(r.Stdout, "local "+data[1]) != 2 {
			t.Errorf("%s has the tunnels\n%s", b.Name, r.Stdout)
		}
	})
	c.Step("the link gets another address: traffic follows", func() {
		w.IP("addr", "del", data[2]+"/24", "dev", "eth1")
		w.IP("addr", "add", "10.78.0.33/24", "dev", "eth1")
		c.serve(client)
	})
	c.Step("the link gets another MTU: all containers follow, large transfers work", func() {
		c.mtu("probe", "1450")
		w.IP("link", "set", "eth1", "mtu", "1400")
		c.mtu("probe", "1350")
		c.streams(client)
		w.IP("link", "set", "eth1", "mtu", "1500")
		c.mtu("probe", "1450")
	})
	c.Step("down", func() { c.Run(w, "down") })
	w.IP("link", "del", "lan")
}

// strict makes a host ask of what arrives whether an answer would go the same
// way, by the packet's mark, as hardened systems and VPNs do.
func strict(h *netlab.Host) {
	h.Exec("sh", "-c", `for f in all default eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/$f/src_valid_mark; done`)
}

func TestHostsMoveAndJoin(t *testing.T) {
	c := New(t, "hosts that check sources strictly serve published ports, a host that moves is reached again, and one with a smaller MTU is joined by all", 0, 0)
	client := c.Lab.Client()
	for range 3 {
		h := c.Lab.Host()
		strict(h)
		h.Load("python:3")
		c.Hosts = append(c.Hosts, h)
	}
	c.Run(c.Hosts[0], "swarm", "init", "--advertise-addr", c.Hosts[0].Addr)
	for _, h := range c.Hosts[1:] {
		h.Join(c.Hosts[0], "worker")
	}
	w := c.Hosts[2]
	c.Compose(fmt.Sprintf(bulk, python(sendsMuch), w.Name, python(mirror)))
	c.Step("the stack comes up on strict hosts", func() {
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.serve(client)
		for _, h := range c.Hosts {
			for _, o := range c.Hosts {
				for range 3 {
					c.answers(h, o.Addr, "8080")
					c.answers(h, "127.0.0.1", "8080")
				}
				c.Says(5*time.Second, h, "probe", " ", "python3", "-c", fetch, "3", "http://"+o.Addr+":8080/")
			}
		}
	})
	c.Step("a host gets another address: its containers are reached again", func() {
		w.Readdress()
		c.serve(client)
		c.streams(client)
	})
	c.Step("a host with a smaller MTU joins: all containers follow, large transfers work", func() {
		c.mtu("probe", "1450")
		late := c.Lab.Host()
		late.IP("link", "set", "eth0", "mtu", "1400")
		late.Load("python:3")
		late.Join(c.Hosts[0], "worker")
		c.Hosts = append(c.Hosts, late)
		c.mtu("probe", "1350")
		c.serve(client)
		c.streams(client)
	})
	c.Step("down", func() { c.Run(c.Hosts[3], "down") })
}
