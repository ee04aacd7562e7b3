package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// apart is a stack with a container on each node in a network of its own, and
// one in an internal network.
const apart = `
name: %[1]s
x-mirror: &mirror
  image: python:3
  command: %[2]s
  init: true
  stop_grace_period: 1s
  deploy: {mode: global}
services:
  web: {<<: *mirror, ports: ["%[3]s:80"]}
  shut: {<<: *mirror, networks: [inner]}
networks:
  inner: {internal: true}
`

// connect is a program for python:3 that prints what becomes of a connection to
// each HOST PORT within a second.
const connect = `
import concurrent.futures, socket, sys
def attempt(addr, port):
    try: socket.create_connection((addr, int(port)), 1).close(); return "reached"
    except OSError as e: return "not " + str(e)
with concurrent.futures.ThreadPoolExecutor(16) as x: print(*x.map(attempt, sys.argv[1::2], sys.argv[2::2]), sep="\n")
`

// reach is what connect prints in a service's container on a host: one line for each address.
func (c *C) reach(h *netlab.Host, service, port string, addrs ...string) []string {
	c.Helper()
	args := []string{"python3", "-c", connect}
	for _, a := range addrs {
		args = append(args, a, port)
	}
	r := c.In(h, service, args...)
	if r.Code != 0 {
		c.Fatal(r.Err())
	}
	return strings.Split(strings.TrimSpace(r.Stdout), "\n")
}

// unreached checks that none of the addresses is reached, ever within a second.
func (c *C) unreached(h *netlab.Host, service, port string, addrs ...string) {
	c.Helper()
	for i, line := range c.reach(h, service, port, addrs...) {
		if !strings.HasPrefix(line, "not") {
			c.Errorf("%s on %s: %s port %s: %s", service, h.Name, addrs[i], port, line)
		}
	}
}

func TestNetworksAreApart(t *testing.T) {
	c := New(t, "a network is reached from nowhere else: not from other networks, not by strangers' tunnels, whatever happens to the hosts' firewalls", 1, 2, "python:3")
	client := c.Lab.Client()
	first, second := c.Dir, t.TempDir()
	c.Step("two stacks come up", func() {
		c.Compose(fmt.Sprintf(apart, "one", python(mirror), "8080"))
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.Dir = second
		c.Compose(fmt.Sprintf(apart, "two", python(mirror), "8090"))
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.Listens("one", "80", "web", "shut")
		c.Listens("two", "80", "web", "shut")
	})
	others := append(c.addressesOf(c.Hosts[0], "web", "4", "tasks.web"), c.addressesOf(c.Hosts[0], "web", "4", "web")...)
	inner := append(c.addressesOf(c.Hosts[0], "shut", "4", "tasks.shut"), c.addressesOf(c.Hosts[0], "shut", "4", "shut")...)
	if len(others) != 4 || len(inner) != 4 {
		t.Fatalf("addresses %v and %v, want three tasks and a service each", others, inner)
	}
	c.Dir = first
	apart := func() {
		for _, h := range c.Hosts {
			c.unreached(h, "web", "80", append(append([]string{}, others...), inner...)...)
			c.unreached(h, "shut", "80", append(append([]string{}, others...), inner...)...)
			for _, line := range c.reach(h, "web", "8090", c.addrs()...) {
				if line != "reached" {
					t.Errorf("%s: published port of the other stack: %s", h.Name, line)
				}
			}
			// A neighbour who routes to the containers' addresses.
			ask := []string{"-c", connect}
			for _, a := range append(append([]string{}, others...), inner...) {
				client.IP("route", "replace", a+"/32", "via", h.Addr)
				ask = append(ask, a, "80")
			}
			if r := client.Exec("python3", ask...); r.Code != 0 || strings.Contains(r.Stdout, "reached") {
				t.Errorf("from outside, by %s: %s: %v", h.Name, r.Stdout, r.Err())
			}
		}
	}
	together := func() {
		for _, h := range c.Hosts {
			c.Says(10*time.Second, h, "web", " ", "python3", "-c", fetch, "3", "http://web/")
			c.Says(10*time.Second, h, "shut", " ", "python3", "-c", fetch, "3", "http://shut/")
			c.sees(client, h.Addr, "8080", client.Addr)
		}
	}
	c.Step("one network is together, and apart from others", func() { together(); apart() })
	c.Step("an internal network has no way out, and no name of the outside exists there", func() {
		l := listen(t, client, "tcp4", ":7000")
		defer l.Close()
		for _, h := range c.Hosts {
			if got := c.reach(h, "web", "7000", client.Addr); got[0] != "reached" {
				t.Errorf("%s: web does not reach the outside: %s", h.Name, got)
			}
			c.unreached(h, "shut", "7000", client.Addr)
			c.unreached(h, "shut", "8080", c.addrs()...)
			if got := c.addressesOf(h, "shut", "4", "www.example.org"); len(got) != 1 || got[0] != "none" {
				t.Errorf("%s: www.example.org is %v", h.Name, got)
			}
		}
	})
	c.Step("firewalls are flushed and closed on every node", func() {
		for _, h := range c.Hosts {
			h.ExecWith(netlab.Input{Stdin: "flush ruleset\n" +
				"table ip filter {\nchain FORWARD {\ntype filter hook forward priority filter; policy drop;\n}\n}\n" +
				"table ip6 filter {\nchain FORWARD {\ntype filter hook forward priority filter; policy drop;\n}\n}\n"}, "nft", "-f", "-")
		}
		together()
		apart()
	})
	c.Step("a stranger's tunnel is not listened to", func() { c.forge(client) })
	c.Step("down", func() {
		c.Run(c.Hosts[1], "down")
		c.Dir = second
		c.Run(c.Hosts[1], "down")
	})
}

// addrs are the hosts' addresses.
func (c *C) addrs() (out []string) {
	for _, h := range c.Hosts {
		out = append(out, h.Addr)
	}
	return out
}

// listen opens a TCP socket on a host.
func listen(t testing.TB, h *netlab.Host, network, addr string) net.Listener {
	t.Helper()
	var l net.Listener
	err := netlab.Inside("/run/netns/"+h.NetNS, func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// forge sends frames of the network one_default in a tunnel of a stranger's to a
// container of the second host. From a node's address they would arrive, which
// shows that the frames are right.
func (c *C) forge(stranger *netlab.Host) {
	c.Helper()
	h, peer := c.Hosts[1], c.Hosts[2]
	id := c.containers("one", "web")[h.Name]
	vni := strings.TrimSpace(c.Run(c.Hosts[0], "network", "inspect", "--format", "{{.VNI}}", "one_default"))
	own := strings.Fields(c.In(h, "web", "sh", "-c", "hostname -i; cat /sys/class/net/eth0/address").Stdout)
	if vni == "" || len(own) != 2 {
		c.Fatalf("VNI %q, the container has %v", vni, own)
	}
	var sock net.PacketConn
	err := netlab.Inside(h.NamespaceOf(id), func() (err error) {
		sock, err = net.ListenPacket("udp4", ":7001")
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer sock.Close()
	arrives := func(from string) bool {
		c.Helper()
		script := `ip addr show | grep -q " $1/" || ip addr add $1/32 dev lo
			ip link add forged type vxlan id $2 local $1 remote $3 dstport 4789 nolearning && ip link set forged up
			ip route replace $4/32 dev forged src $5 && ip neigh replace $4 lladdr $6 dev forged
			for i in 1 2 3; do echo forged > /dev/udp/$4/7001; done; ip -s link show forged; ip link del forged`
		r := stranger.Exec("bash", "-c", script, "-", from, vni, h.Addr, own[0], stranger.Addr, own[1])
		if r.Code != 0 || strings.Contains(r.Stderr, "rror") {
			c.Fatal(r.Err(), r.Stderr)
		}
		if err := sock.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			c.Fatal(err)
		}
		_, _, err := sock.ReadFrom(make([]byte, 100))
		return err == nil
	}
	if arrives(stranger.Addr) {
		c.Error("a stranger's frame reached a container")
	}
	if !arrives(peer.Addr) {
		c.Error("a node's frame did not arrive either: the test shows nothing")
	}
}

func TestPlainContainersEnterNetworks(t *testing.T) {
	netlab.NeedsDocker(t)
	c := New(t, "plain containers of docker's client enter networks of the cluster that are attachable, and talk by name on different nodes", 1, 2, "python:3")
	a, b := c.Hosts[1], c.Hosts[2]
	docker := func(h *netlab.Host, args ...string) string {
		t.Helper()
		r := h.Docker(args...)
		if r.Code != 0 {
			t.Fatal(r.Err())
		}
		return strings.TrimSpace(r.Stdout)
	}
	c.Step("an attachable network, from a worker to a worker", func() {
		docker(c.Hosts[0], "network", "create", "-d", "overlay", "--attachable", "open")
		docker(a, "run", "-d", "--name", "here", "--init", "--network", "open", "--network-alias", "there", "python:3", "python3", "-u", "-c", mirror)
		for _, h := range c.Hosts {
			for _, name := range []string{"here", "there", "here.open"} {
				netlab.Eventually(t, 10*time.Second, name+" answers a container on "+h.Name, func() error {
					return h.Docker("run", "--rm", "--network", "open", "python:3", "python3", "-c", fetch, "2", "http://"+name+"/").Err()
				})
			}
		}
	})
	c.Step("one that is not", func() {
		docker(c.Hosts[0], "network", "create", "-d", "overlay", "closed")
		for _, h := range c.Hosts {
			r := h.Docker("run", "--rm", "--network", "closed", "python:3", "true")
			if r.Code == 0 || !strings.Contains(r.Stderr, "attachable") {
				t.Errorf("%s: exit code %d: %s", h.Name, r.Code, r.Stderr)
			}
		}
	})
	c.Step("a name goes with its container, and is free for one elsewhere", func() {
		docker(a, "rm", "-f", "here")
		docker(b, "run", "-d", "--name", "here", "--init", "--network", "open", "python:3", "python3", "-u", "-c", mirror)
		netlab.Eventually(t, 10*time.Second, "it answers", func() error {
			return a.Docker("run", "--rm", "--network", "open", "python:3", "python3", "-c", fetch, "2", "http://here/").Err()
		})
		docker(b, "rm", "-f", "here")
		docker(c.Hosts[0], "network", "rm", "open", "closed")
	})
}
