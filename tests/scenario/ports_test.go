package scenario

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

const portsFile = `
name: ports
services:
  web:
    image: busybox
    command: &httpd [sh, -c, "mkdir -p /w && hostname > /w/index.html && exec httpd -f -h /w -p 80"]
    hostname: web
    stop_signal: SIGKILL
    healthcheck: &listens {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 5s, start_interval: 50ms, start_period: 10s}
    ports:
      - "8080:80"                 # short
      - "127.0.0.1:8081:80"       # one address
      - target: 80                # long
        published: "8082"
        host_ip: "${HOST}"
        protocol: tcp
        mode: host
        name: http
        app_protocol: http
      - "80"                      # any free port
    networks: [a]
  many:
    image: busybox
    command: [sh, -c, "for p in 7000 7001 7002; do mkdir /$$p && echo $$p > /$$p/index.html && httpd -h /$$p -p $$p; done; exec sleep 1000"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:7002/"], interval: 5s, start_interval: 50ms, start_period: 10s}
    ports: ["9000-9002:7000-7002"]
    networks: [a]
  udp:
    image: python:3
    command:
      - python3
      - -c
      - |
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("", 5353))
        while True:
            data, peer = s.recvfrom(100)
            s.sendto(data.upper(), peer)
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, grep, -q, ":14E9 ", /proc/net/udp], interval: 5s, start_interval: 50ms, start_period: 10s} # 5353
    ports: ["5353:5353/udp"]
    networks: [a]
  pool:
    image: busybox
    command: *httpd
    stop_signal: SIGKILL
    healthcheck: *listens
    ports: ["9100-9102:80"]
    deploy: {replicas: 3}
    networks: [a]
  peer:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [b]
networks: {a: {}, b: {}}
`

func TestPublishedPorts(t *testing.T) {
	s := Scenario(t, "published ports open on the addresses that the file says and on no other, for the host, its neighbours and containers", "busybox:latest", "python:3")
	s.Compose(strings.ReplaceAll(portsFile, "${HOST}", s.Addr))
	s.Run("up", "-d", "--wait")
	neighbour := s.Neighbour()

	s.Step("all addresses", func() {
		s.opens("web", "127.0.0.1:8080", "[::1]:8080", s.Addr+":8080")
		if r := neighbour.Get("http://" + s.Addr + ":8080/"); r.Stdout != "web\n" {
			t.Errorf("from a neighbour: %q %s", r.Stdout, r.Stderr)
		}
	})
	s.Step("127.0.0.1 only", func() {
		s.opens("web", "127.0.0.1:8081")
		s.closed("[::1]:8081", s.Addr+":8081")
		if r := neighbour.Get("http://" + s.Addr + ":8081/"); r.Code == 0 {
			t.Errorf("a neighbour reaches what is published on 127.0.0.1: %q", r.Stdout)
		}
		// A neighbour can send packets for 127.0.0.1 here, whatever the standards say of it.
		for _, cmd := range []string{
			"sysctl -qw net.ipv4.conf.all.route_localnet=1", "ip route del local 127.0.0.1 table local", "ip route del local 127.0.0.0/8 table local",
			"ip route add 127.0.0.1 via " + s.Addr + " src " + neighbour.Addr,
		} {
			if r := neighbour.Exec("sh", "-c", cmd); r.Code != 0 {
				t.Fatal(r.Err())
			}
		}
		if r := neighbour.Exec("curl", "-sS", "--max-time", "2", "http://127.0.0.1:8081/"); r.Code == 0 {
			t.Errorf("a neighbour that routes 127.0.0.1 here reaches it: %q", r.Stdout)
		}
	})
	s.Step("the host's address only", func() {
		s.opens("web", s.Addr+":8082")
		s.closed("127.0.0.1:8082", "[::1]:8082")
	})
	s.Step("a range", func() {
		s.opens("7000", "127.0.0.1:9000")
		s.opens("7001", "127.0.0.1:9001", s.Addr+":9001")
		s.opens("7002", "127.0.0.1:9002")
	})
	s.Step("a range shared by replicas", func() {
		seen := map[string]bool{}
		for _, p := range []string{"9100", "9101", "9102"} {
			seen[s.Get("http://127.0.0.1:"+p+"/").Stdout] = true
		}
		if len(seen) != 3 || seen[""] {
			t.Errorf("pages: %v", seen)
		}
	})
	s.Step("udp", func() {
		for _, addr := range []string{"127.0.0.1", s.Addr} {
			r := s.Exec("bash", "-c", "exec 3<>/dev/udp/"+addr+"/5353; echo ahoy >&3; timeout 3 head -n1 <&3")
			if r.Stdout != "AHOY\n" {
				t.Errorf("udp to %s: %q %s", addr, r.Stdout, r.Stderr)
			}
		}
	})
	s.Step("from containers: of another network, of the same, and the container itself", func() {
		for _, service := range []string{"peer", "pool", "web"} {
			r := s.TryIn("exec", "-T", service, "timeout", "3", "wget", "-qO-", "http://"+s.Addr+":8080/")
			if r.Stdout != "web\n" {
				t.Errorf("from %s: %q %s", service, r.Stdout, r.Stderr)
			}
		}
	})
	s.Step("dhow port", func() {
		if out := strings.TrimSpace(s.Run("port", "udp", "5353", "--protocol", "udp")); out != "0.0.0.0:5353" {
			t.Errorf("udp: %q", out)
		}
		if out := strings.TrimSpace(s.Run("port", "many", "7002")); out != "0.0.0.0:9002" {
			t.Errorf("many: %q", out)
		}
		s.Refused([]string{"port", "web", "81"}, "web", "81/tcp")
		s.Refused([]string{"port", "peer", "80"}, "peer", "80/tcp")
	})
	s.Step("a port that the daemon chose", func() {
		free := 0
		for _, p := range s.PS()["ports-web-1"].Publishers {
			if p.PublishedPort > 8082 {
				free = p.PublishedPort
			}
		}
		if free < 1024 {
			t.Fatalf("publishers: %+v", s.PS()["ports-web-1"].Publishers)
		}
		s.opens("web", "127.0.0.1:"+strconv.Itoa(free))
	})
	s.Step("the next daemon keeps them", func() {
		s.Kill()
		s.opens("web", "127.0.0.1:8081", s.Addr+":8080")
		s.Start()
		s.opens("web", "127.0.0.1:8081", s.Addr+":8080", s.Addr+":8082")
		s.closed(s.Addr + ":8081")
	})
	s.Step("after down they are free", func() {
		s.Run("down", "-v")
		s.closed("127.0.0.1:8080", "127.0.0.1:8081", s.Addr+":8082", "127.0.0.1:9001")
		s.Clean()
	})
}

// opens checks that each address serves this page.
func (s *S) opens(page string, addrs ...string) {
	s.Helper()
	for _, a := range addrs {
		if r := s.Get("http://" + a + "/"); strings.TrimSpace(r.Stdout) != page {
			s.Errorf("%s: %q %s", a, r.Stdout, r.Stderr)
		}
	}
}

// closed checks that nothing answers at these addresses.
func (s *S) closed(addrs ...string) {
	s.Helper()
	for _, a := range addrs {
		if r := s.Exec("curl", "-sS", "--max-time", "2", "http://"+a+"/"); r.Code == 0 {
			s.Errorf("%s is open: %q", a, r.Stdout)
		}
	}
}

const lonePort = `
name: %s
services:
  web:
    image: busybox
    command: [sh, -c, "mkdir -p /w && echo %[1]s > /w/index.html && exec httpd -f -h /w -p 80"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 5s, start_interval: 50ms, start_period: 10s}
    ports: [%s]
`

func TestPortInUse(t *testing.T) {
	s := Scenario(t, "a published port that is in use is an error that names its holder, and opens no other port of the container", "busybox:latest")
	s.Compose(fmt.Sprintf(lonePort, "first", `"8080:80"`))
	s.Run("up", "-d", "--wait")

	s.Step("by a container of another stack", func() {
		s.Compose(fmt.Sprintf(lonePort, "second", `"8090:80", "8080:80"`))
		s.Refused([]string{"up", "-d", "--wait"}, "service web", "8080", "first/web")
		s.closed("127.0.0.1:8090")
		s.opens("first", "127.0.0.1:8080")
		if c := s.PS()["second-web-1"]; c.State == "running" {
			t.Errorf("it runs: %+v", c)
		}
	})
	s.Step("on one address of the same port", func() {
		s.Compose(fmt.Sprintf(lonePort, "second", `"127.0.0.1:8080:80"`))
		s.Refused([]string{"up", "-d", "--wait"}, "127.0.0.1:8080", "first/web")
	})
	s.Step("it starts by itself when the holder has gone", func() {
		s.Run("-p", "first", "down")
		s.Until("the second stack serves", func() error {
			if r := s.Get("http://127.0.0.1:8080/"); r.Stdout != "second\n" {
				return fmt.Errorf("%q %s", r.Stdout, r.Stderr)
			}
			return nil
		})
		s.Run("down")
	})
	s.Step("by a program of the host", func() {
		holder := s.listen("127.0.0.1:8080")
		s.Compose(fmt.Sprintf(lonePort, "third", `"8090:80", "8080:80"`))
		s.Refused([]string{"up", "-d", "--wait"}, "service web", "8080", "process", strconv.Itoa(holder.Process.Pid))
		s.closed("127.0.0.1:8090")
	})
	s.Step("two services of one stack", func() {
		s.Compose("name: twice\nservices:\n" +
			"  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, ports: ['8070:80']}\n" +
			"  b: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, ports: ['8070:81']}\n")
		s.Refused([]string{"up", "-d", "--wait"}, "compose.yaml:4", "8070", "service a")
	})
	for _, stack := range []string{"second", "third", "twice"} {
		s.TryIn("-p", stack, "down", "-v")
	}
	s.Clean()
}

// listen starts a program of the host, outside of dhow, that holds a port until the test ends.
func (s *S) listen(addr string) *exec.Cmd {
	s.Helper()
	host, port, _ := strings.Cut(addr, ":")
	cmd := exec.Command("nsenter", "--net=/run/netns/"+s.NetNS, "busybox", "httpd", "-f", "-p", host+":"+port, "-h", s.Dir)
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	s.Until("the program listens", func() error {
		if r := s.Exec("curl", "-sS", "http://"+addr+"/"); r.Code == 7 { // refused
			return r.Err()
		}
		return nil
	})
	return cmd
}
