package scenario

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const netsFile = `
name: nets
x-sleeper: &sleeper
  image: busybox
  command: &serve [sh, -c, "mkdir -p /w && hostname > /w/index.html && exec httpd -f -h /w -p 80"]
  stop_signal: SIGKILL
  healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 5s, start_interval: 50ms, start_period: 10s}
services:
  web:
    <<: *sleeper
    container_name: the-web
    hostname: web-host
    networks:
      front: {aliases: [www, www.shop.example]}
      back: {}
  db:
    <<: *sleeper
    networks: [back]
  many:
    <<: *sleeper
    deploy: {replicas: 3}
    networks: [front]
  fixed:
    <<: *sleeper
    mac_address: 02:42:ac:11:65:43
    networks:
      six: {ipv4_address: 10.201.0.10, ipv6_address: "fd00:201::10"}
  other:
    <<: *sleeper
    hostname: other
    domainname: shop.example
    networks: [six]
    dns: ["HOST"]
    dns_search: [shop.example, example.org]
    dns_opt: ["timeout:1"]
    extra_hosts: ["upstairs:192.0.2.9", "gate:host-gateway"]
  sidecar:
    <<: *sleeper
    command: [sleep, "1000"]
    network_mode: service:web
  alone:
    <<: *sleeper
    network_mode: none
  metal:
    <<: *sleeper
    image: python:3
    network_mode: host
    healthcheck: {test: [CMD, grep, -q, ":0035 ", /proc/net/udp]} # port 53
    command:
      - python3
      - -c
      - |
        # Answers every question for an IPv4 address with 192.0.2.7.
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("HOST", 53))
        while True:
            q, peer = s.recvfrom(512)
            end = 12
            while q[end]: end += q[end] + 1
            question = q[12:end + 5]
            a = question[-3] == 1
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc0\0\2\7" if a else b""
            s.sendto(q[:2] + b"\x81\x80\0\1\0" + bytes([a]) + b"\0\0\0\0" + question + answer, peer)
networks:
  front: {}
  back: {internal: true}
  six:
    enable_ipv6: true
    ipam:
      config:
        - {subnet: 10.201.0.0/24, gateway: 10.201.0.1, ip_range: 10.201.0.128/25}
        - {subnet: "fd00:201::/64"}
`

// try runs a script in a service's container; it ends after 5 s at the latest.
func (s *S) try(service, script string) (string, int) {
	r := s.TryIn("exec", "-T", service, "timeout", "5", "sh", "-c", script)
	return strings.TrimSpace(r.Stdout), r.Code
}

// says checks what a script in a service's container prints.
func (s *S) says(service, script, want string) {
	s.Helper()
	if out, code := s.try(service, script); out != want {
		s.Errorf("%s: %s: %q (exit code %d), want %q", service, script, out, code, want)
	}
}

// fails checks that a script in a service's container does.
func (s *S) fails(service, script string) {
	s.Helper()
	if out, code := s.try(service, script); code == 0 {
		s.Errorf("%s: %s: succeeded: %q", service, script, out)
	}
}

// addr is the IPv4 address of a service's container in a network of the stack nets.
func (s *S) addr(container, network string) string {
	s.Helper()
	return s.inspect(container).NetworkSettings.Networks[network].IPAddress
}

// virtual is the IPv4 and IPv6 address of a service in a network of the stack nets.
func (s *S) virtual(service, network string) (v4, v6 string) {
	s.Helper()
	var view []struct {
		Services []struct{ Service, IPv4, IPv6 string }
	}
	if err := json.Unmarshal([]byte(s.Run("network", "inspect", network)), &view); err != nil {
		s.Fatal(err)
	}
	for _, x := range view[0].Services {
		if x.Service == "nets/"+service {
			return x.IPv4, x.IPv6
		}
	}
	s.Fatalf("%s has no virtual address in %s: %+v", service, network, view)
	return "", ""
}

// answers checks what a service's container pings under a name, with or without -4 or -6, and that it answers.
func (s *S) answers(service, name, addr string) {
	s.Helper()
	s.says(service, "ping -c1 -W2 "+name+" | sed -n 's/^PING.*(\\(.*\\)).*/\\1/p; /1 packets received/s/.*/answered/p'", addr+"\nanswered")
}

func TestNetworks(t *testing.T) {
	s := Scenario(t, "containers find and reach those of their own networks, by every name they have, and no others", "busybox:latest", "python:3")
	s.Compose(strings.ReplaceAll(netsFile, "HOST", s.Addr))
	s.Run("up", "-d", "--wait")
	neighbour := s.Neighbour()
	webFront, webBack := s.addr("the-web", "nets_front"), s.addr("the-web", "nets_back")

	webVirtual, _ := s.virtual("web", "nets_front")
	backVirtual, _ := s.virtual("web", "nets_back")
	if webVirtual == backVirtual || webVirtual == webFront || webVirtual == "" || backVirtual == "" {
		t.Fatalf("virtual addresses %q and %q, containers' %q and %q", webVirtual, backVirtual, webFront, webBack)
	}

	s.Step("names: service, container, aliases; in each network its own address", func() {
		for _, name := range []string{"web", "www", "www.shop.example", "web.nets"} {
			s.answers("many", name, webVirtual)
			s.answers("many", "tasks."+name, webFront)
		}
		s.answers("many", "the-web", webFront)
		s.says("many", "wget -qO- http://www.shop.example/", "web-host")
		s.answers("db", "web", backVirtual)
		s.answers("db", "the-web", webBack)
		s.says("db", "wget -qO- http://web/", "web-host")
		s.fails("db", "ping -c1 -W2 www")  // an alias of the other network
		own := []string{webFront, webBack} // one task calls itself by its own addresses
		slices.Sort(own)
		s.says("web", "nslookup -type=a web | sed -n 's/^Address: //p' | sort", strings.Join(own, "\n"))
		s.says("web", "wget -qO- http://nets-many-2/ | wc -l", "1")
	})
	s.Step("replicas answer under one name, by turns", func() {
		many, _ := s.virtual("many", "nets_front")
		s.says("web", "nslookup -type=a many | sed -n 's/^Address: //p'", many)
		s.says("web", "nslookup -type=a tasks.many | grep -c '^Address: '", "3")
		s.says("web", "for i in 1 2 3; do wget -qO- http://many/; done | sort -u | wc -l", "3")
		s.says("many", "for i in 1 2 3; do wget -qO- http://many/; done | sort -u | wc -l", "3") // itself too
	})
	s.Step("networks are apart", func() {
		s.fails("db", "ping -c1 -W1 many")
		s.fails("many", "ping -c1 -W1 db")
		for _, a := range []string{webBack, backVirtual} {
			s.fails("many", "ping -c1 -W1 "+a)
		}
		for _, a := range []string{webFront, webVirtual} {
			s.fails("other", "ping -c1 -W1 "+a)
			s.fails("other", "wget -qO- http://"+a+"/")
		}
	})
	s.Step("out through the host, but not from an internal network", func() {
		s.says("many", "ping -c1 -W2 "+neighbour.Addr+" | grep -c '1 packets received'", "1")
		s.fails("db", "ping -c1 -W1 "+neighbour.Addr)
	})
	s.Step("a neighbour that routes to a container reaches nothing that is not published", func() {
		for _, a := range []string{webFront, webBack, webVirtual, backVirtual} {
			neighbour.Exec("ip", "route", "add", a, "via", s.Addr)
			if r := neighbour.Exec("curl", "-sS", "--max-time", "1", "http://"+a+"/"); r.Code == 0 {
				t.Errorf("reached %s: %q", a, r.Stdout)
			}
		}
	})
	s.Step("static addresses, IPv6, MAC", func() {
		s.says("fixed", "ip -o -4 addr show eth0 | awk '{print $4}'", "10.201.0.10/24")
		s.says("fixed", "ip -o -6 addr show eth0 scope global | awk '{print $4}'", "fd00:201::10/64")
		s.says("fixed", "cat /sys/class/net/eth0/address", "02:42:ac:11:65:43")
		virtual4, virtual6 := s.virtual("fixed", "nets_six")
		s.answers("other", "-6 nets-fixed-1", "fd00:201::10")
		s.answers("other", "-4 nets-fixed-1", "10.201.0.10")
		s.answers("other", "-6 fixed", virtual6)
		s.answers("other", "-4 fixed", virtual4)
		if a := s.addr("nets-other-1", "nets_six"); !strings.HasPrefix(a, "10.201.0.1") && !strings.HasPrefix(a, "10.201.0.2") || len(a) != len("10.201.0.128") {
			t.Errorf("an address outside of ip_range: %s", a)
		}
	})
	s.Step("modes", func() {
		s.says("sidecar", "ip -o -4 addr show eth0 | grep -c '"+webFront+"\\|"+webBack+"'", "1")
		s.says("sidecar", "wget -qO- http://127.0.0.1/", "web-host")
		s.says("alone", "ls /sys/class/net", "lo")
		s.fails("alone", "ping -c1 -W1 "+s.Addr)
		out, _ := s.try("metal", "cat /proc/net/fib_trie")
		if !strings.Contains(out, s.Addr) {
			t.Errorf("host mode lacks the host's address: %s", out)
		}
	})
	s.Step("hostname, extra hosts, resolver", func() {
		s.says("other", "hostname", "other")
		s.says("other", "hostname -f", "other.shop.example")
		s.says("other", "grep upstairs /etc/hosts | awk '{print $1}'", "192.0.2.9")
		s.says("other", "ping -c1 -W2 gate | grep -c '1 packets received'", "1")
		s.says("other", "grep -E '^(search|options)' /etc/resolv.conf", "search shop.example example.org\noptions timeout:1 ndots:0")
	})
	s.Step("what is no name of the stack goes upstream", func() {
		s.says("other", "nslookup -type=a ships.example.com | sed -n 's/^Address: //p' | tail -1", "192.0.2.7")
	})
	s.Step("no address is given twice, also after kill -9", func() {
		s.Kill()
		s.Start()
		s.Run("up", "-d", "--wait", "--scale", "many=6")
		seen := map[string]string{webFront: "the-web"}
		for i := range 6 {
			name := fmt.Sprintf("nets-many-%d", i+1)
			a := s.addr(name, "nets_front")
			if seen[a] != "" || a == "" {
				t.Errorf("%s has %q, as %s", name, a, seen[a])
			}
			seen[a] = name
		}
		s.says("web", "nslookup -type=a tasks.many | grep -c '^Address: '", "6")
		s.says("web", "for i in 1 2 3 4 5 6; do wget -qO- http://many/; done | sort -u | wc -l", "6")
		s.says("other", "ping -c1 -W2 fixed | grep -c '1 packets received'", "1")
	})
	s.Step("a replica that goes is forgotten", func() {
		s.Run("up", "-d", "--wait", "--scale", "many=1")
		s.says("web", "nslookup -type=a tasks.many | sed -n 's/^Address: //p'", s.addr("nets-many-1", "nets_front"))
		s.says("web", "for i in 1 2 3; do wget -qO- http://many/; done | sort -u | wc -l", "1")
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestNetworksOfSeveralStacks(t *testing.T) {
	s := Scenario(t, "two stacks do not see each other unless they share an external network", "busybox:latest")
	stack := func(name, networks string) {
		s.Compose(strings.ReplaceAll(`
name: NAME
services:
  web:
    image: busybox
    command: [sh, -c, "mkdir -p /w && echo NAME > /w/index.html && exec httpd -f -h /w -p 80"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 5s, start_interval: 50ms, start_period: 10s}
`, "NAME", name) + networks)
	}
	shared := func(name string) {
		stack(name, "    networks: {default: {}, shared: {aliases: ["+name+"]}}\nnetworks: {shared: {name: meeting, external: true}}\n")
	}
	s.Step("apart", func() {
		stack("east", "")
		s.Write("east.yaml", read(t, s.Dir+"/compose.yaml"))
		s.Run("up", "-d", "--wait")
		stack("west", "")
		s.Run("up", "-d", "--wait")
		s.Run("-p", "east", "-f", "east.yaml", "up", "-d", "--wait") // nothing to do, and no wait for what happens elsewhere
		s.says("web", "wget -qO- http://web/", "west")
		s.fails("web", "ping -c1 -W1 east-web-1")
		s.fails("web", "ping -c1 -W1 "+s.addr("east-web-1", "east_default"))
	})
	s.Step("an external network that is not there is an error that says so", func() {
		shared("west")
		s.Refused([]string{"up", "-d", "--wait"}, "meeting", "external")
	})
	s.Step("meeting in an external network", func() {
		s.Run("network", "create", "meeting")
		for _, name := range []string{"east", "west"} {
			shared(name)
			s.Run("up", "-d", "--wait")
		}
		s.says("web", "wget -qO- http://east/", "east")
		s.says("web", "wget -qO- http://west/", "west")
	})
	s.Step("sharing the network namespace of another stack's container", func() {
		s.Compose("name: guest\nservices:\n  g: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, network_mode: 'container:east-web-1'}\n")
		s.Run("up", "-d", "--wait")
		s.says("g", "wget -qO- http://127.0.0.1/", "east")
		s.Run("down")
	})
	s.Step("down leaves the external network alone", func() {
		for _, name := range []string{"east", "west"} {
			shared(name)
			s.Run("down", "-v")
		}
		if out := s.Run("network", "ls", "--format", "{{.Name}}"); !strings.Contains(out, "meeting") {
			t.Errorf("networks: %s", out)
		}
		s.Run("network", "rm", "meeting")
	})
	s.Clean()
}
