package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// repeater has a service that says what it hears, on a node of its own, and
// somebody on each node.
const repeater = `
name: echo
services:
  server:
    image: busybox:latest
    command: [nc, -ll, -p, "7", -e, cat]
    init: true
    stop_grace_period: 1s
    ports: ["7000:7"]
    deploy: {replicas: 1, placement: {constraints: ["node.hostname == %s"]}}
  each:
    image: busybox:latest
    command: [sleep, "1000000"]
    stop_signal: SIGKILL
    deploy: {mode: global}
`

// caller has an open connection to the server.
type caller struct {
	who  string
	conn net.Conn
	end  chan time.Time // when a read failed
}

// call connects from a namespace, and has an answer before it returns.
func (c *C) call(who, namespace, addr string) *caller {
	c.Helper()
	a := Asker{Namespace: namespace}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := a.dial(ctx, "tcp", addr)
	if err != nil {
		c.Fatalf("%s: %v", who, err)
	}
	x := &caller{who, conn, make(chan time.Time, 1)}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		c.Fatalf("%s: %v", who, err)
	}
	if n, err := conn.Read(make([]byte, 16)); n != 6 || err != nil {
		c.Fatalf("%s: answer of %d bytes, %v", who, n, err)
	}
	go func() {
		_, _ = conn.Read(make([]byte, 16))
		x.end <- time.Now()
	}()
	return x
}

// view is a network as a host knows it.
func (c *C) view(h *netlab.Host, name string) (v stack.NetworkView, err error) {
	return v, ask(h, "/dhow/v1/networks/"+name, &v)
}

// address of a service in a network, and of its one task.
func (c *C) address(h *netlab.Host, network, service string) (virtual, task string) {
	c.Helper()
	v, err := c.view(h, network)
	if err != nil {
		c.Fatal(err)
	}
	for _, s := range v.Services {
		if s.Service == service {
			virtual = s.IPv4
		}
	}
	for _, e := range v.Endpoints {
		if e.Service == service && e.Up {
			task = e.IPv4
		}
	}
	return virtual, task
}

// down waits until the managers take a node for lost.
func (c *C) down(by, lost *netlab.Host, network string) time.Time {
	c.Helper()
	netlab.Eventually(c, 40*time.Second, lost.Name+" is down", func() error {
		v, err := c.view(by, network)
		if err != nil {
			return err
		}
		for _, n := range v.Nodes {
			if n.Hostname == lost.Name && n.Down {
				return nil
			}
		}
		return errNotYet
	})
	return time.Now()
}

func TestVanishedBackendsAreTold(t *testing.T) {
	c := New(t, "whoever waits for a task of a node that is lost gets an error when the cluster knows, through whatever address", 3, 2, "busybox:latest")
	lost := c.Hosts[4]
	c.Compose(fmt.Sprintf(repeater, lost.Name))
	c.Run(c.Hosts[0], "up", "-d", "--wait")
	c.Listens("echo", "7", "server")
	client := c.Lab.Client()
	virtual, task := c.address(c.Hosts[0], "echo_default", "echo/server")
	ids := c.containers("echo", "each")
	var waiting []*caller
	for _, h := range c.Others(lost) {
		inside := h.NamespaceOf(ids[h.Name])
		waiting = append(waiting, c.call("container on "+h.Name+" by name", inside, virtual+":7"), c.call("container on "+h.Name+" directly", inside, task+":7"),
			c.call("container on "+h.Name+" by port", inside, h.Addr+":7000"), c.call(h.Name+" itself", "/run/netns/"+h.NetNS, "127.0.0.1:7000"))
	}
	outside := c.call("outside", "/run/netns/"+client.NetNS, c.Hosts[0].Addr+":7000")
	c.Lab.Isolate(lost)
	known := c.down(c.Hosts[0], lost, "echo_default")
	for _, x := range waiting {
		select {
		case at := <-x.end:
			t.Logf("  %s: %s after the cluster knew", x.who, at.Sub(known).Round(time.Millisecond))
		case <-time.After(time.Until(known.Add(30 * time.Second))):
			t.Errorf("%s still waits", x.who)
		}
		x.conn.Close()
	}
	// One that is not of this cluster's machines is told with its next packet.
	if _, err := outside.conn.Write([]byte("again\n")); err == nil {
		select {
		case at := <-outside.end:
			t.Logf("  outside: %s after the cluster knew", at.Sub(known).Round(time.Millisecond))
		case <-time.After(30 * time.Second):
			t.Error("outside still waits")
		}
	}
	c.Consistent(20*time.Second, c.Others(lost)...)
	for _, h := range c.Others(lost) { // new ones are refused, not lost
		start := time.Now()
		a := Asker{Namespace: h.NamespaceOf(ids[h.Name])}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		conn, err := a.dial(ctx, "tcp", virtual+":7")
		cancel()
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a new connection from %s: %v after %s", h.Name, err, time.Since(start))
		}
	}
	c.Lab.Heal()
	c.Consistent(40 * time.Second)
	for _, h := range c.Hosts {
		c.call("container on "+h.Name+" afterwards", h.NamespaceOf(ids[h.Name]), virtual+":7").conn.Close()
	}
}

// patient is a server that ends what it has begun when it is told to stop.
// /slow takes three seconds.
const patient = `
import http.server, os, signal, socket, threading, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow": time.sleep(3)
        body = (socket.gethostname() + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
s = S(("", 80), H)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=s.shutdown).start())
s.serve_forever()
s.server_close()
`

const slow = `
name: slow
services:
  web:
    image: python:3
    command: %s
    stop_grace_period: 10s
    ports: ["8080:80"]
    healthcheck: {test: [CMD, python3, -c, "import urllib.request; urllib.request.urlopen('http://127.0.0.1/')"], interval: 2s, start_interval: 300ms, start_period: 20s, timeout: 5s}
    deploy: {replicas: 3, placement: {max_replicas_per_node: 1}}
  each:
    image: busybox:latest
    command: [sleep, "1000000"]
    stop_signal: SIGKILL
    deploy: {mode: global}
`

func TestLongRequestsFinishWhenANodeIsDrained(t *testing.T) {
	c := New(t, "what a task has begun before its node is drained it ends; new requests go elsewhere", 3, 1, "python:3", "busybox:latest")
	c.Compose(fmt.Sprintf(slow, python(patient)))
	c.Run(c.Hosts[0], "up", "-d", "--wait")
	client := c.Lab.Client()
	virtual, _ := c.address(c.Hosts[0], "slow_default", "slow/web")
	ids := c.containers("slow", "each")
	on := c.containers("slow", "web")
	away := c.Hosts[3]
	if on[away.Name] == "" {
		away = c.Hosts[1]
	}
	var askers []Asker
	for _, h := range c.Hosts {
		askers = append(askers, Asker{"outside at " + h.Name, "/run/netns/" + client.NetNS, "http://" + h.Addr + ":8080/"})
		if h != away { // there the asker itself has to go
			askers = append(askers, Asker{"inside on " + h.Name, h.NamespaceOf(ids[h.Name]), "http://" + virtual + "/"})
		}
	}
	type answer struct {
		who, from string
		err       error
	}
	answers := make(chan answer)
	count := 0
	for _, a := range askers {
		for range 3 { // each of the three tasks gets some
			count++
			go func() {
				from, err := a.get(a.URL + "slow")
				answers <- answer{a.Who, from, err}
			}()
		}
	}
	time.Sleep(300 * time.Millisecond) // they are on their way: a slow request takes ten times as long
	l := c.Ask(askers...)
	defer l.Stop()
	c.Run(c.Hosts[0], "node", "update", "--availability", "drain", away.Name)
	served := map[string]int{}
	for range count {
		a := <-answers
		if a.err != nil {
			t.Errorf("%s: %v", a.who, a.err)
		}
		served[a.from]++
	}
	if n := served[on[away.Name][:12]]; n == 0 {
		t.Errorf("no long request was at %s: %v", away.Name, served)
	}
	t.Logf("  long requests: %v", served)
	c.Runs(time.Minute, "slow", "web", 3, c.Others(away)...)
	l.Lost("drain")
}

// get fetches a page and returns what it says.
func (a Asker) get(url string) (string, error) {
	conn, err := a.dial(context.Background(), "tcp", strings.SplitN(strings.TrimPrefix(url, "http://"), "/", 2)[0]+port80(url))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	path := url[strings.LastIndex(url, "/"):]
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return "", err
	}
	var text strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_, body, ok := strings.Cut(text.String(), "\r\n\r\n")
	if !ok || body == "" {
		return "", errors.New("the connection ended without an answer")
	}
	return strings.TrimSpace(body), nil
}

// port80 is the port that a URL leaves out.
func port80(url string) string {
	if strings.Count(url, ":") > 1 {
		return ""
	}
	return ":80"
}

// small has a network with few addresses, which are used again soon, and somebody
// in it who stays.
const small = `
name: %s
services:
  web:
    image: busybox:latest
    command: [sh, -c, "mkdir -p /w; echo %[1]s/web > /w/index.html; exec httpd -f -p 80 -h /w"]
    stop_signal: SIGKILL
    ports: ["8080:80"]
    deploy: {replicas: %d}
    networks: [tight]
networks:
  tight: {external: true}
`

func TestAddressesAreUsedAgain(t *testing.T) {
	c := New(t, "addresses that change hands again and again lead at once to who has them now", 1, 2, "busybox:latest")
	if err := c.Hosts[0].Exec("curl", "-sS", "--fail-with-body", "--unix-socket", c.Hosts[0].RunDir+"/dhow.sock", "-X", "POST", "-H", "Content-Type: application/json", "-d",
		`{"Name":"tight","Attachable":true,"IPAM":{"Config":[{"Subnet":"10.30.0.0/28"}]}}`, "http://dhow/networks/create").Err(); err != nil {
		t.Fatal(err)
	}
	var stayers []string
	for _, h := range c.Hosts {
		name := "stays-" + h.Name
		if err := errors.Join(post(h, "/containers/create?name="+name, `{"Image":"busybox:latest","Cmd":["sleep","1000000"],"StopSignal":"SIGKILL","HostConfig":{"NetworkMode":"tight"}}`),
			post(h, "/containers/"+name+"/start", "")); err != nil {
			t.Fatal(err)
		}
		var ct struct{ ID string }
		h.API("GET", "/containers/"+name+"/json", &ct)
		stayers = append(stayers, h.NamespaceOf(ct.ID))
	}
	client := c.Lab.Client()
	held := map[string]int{}
	for round := range 8 {
		name := []string{"one", "two"}[round%2]
		c.Compose(fmt.Sprintf(small, name, 4+round%3))
		h := c.Hosts[round%3]
		c.Run(h, "up", "-d", "--wait")
		w, err := c.world(c.Hosts[0])
		if err != nil {
			t.Fatal(err)
		}
		v := w.networks["tight"]
		for _, e := range v.Endpoints {
			if e.Service != "" {
				held[e.IPv4]++
			}
		}
		netlab.Eventually(t, 5*time.Second, "everybody reaches everybody", func() error {
			var bad []error
			for i, ns := range stayers {
				for _, to := range w.goals(v) {
					bad = append(bad, to.from("who stays on "+c.Hosts[i].Name, ns))
				}
				to := goal{"http://" + c.Hosts[i].Addr + ":8080/", name + "/web"}
				bad = append(bad, to.from("outside", "/run/netns/"+client.NetNS))
			}
			return errors.Join(bad...)
		})
		c.Consistent(10 * time.Second)
		c.Run(c.Hosts[(round+1)%3], "down")
	}
	again := 0
	for _, n := range held {
		if n > 1 {
			again++
		}
	}
	if again < 4 {
		t.Errorf("%d addresses were used again: %v", again, held)
	}
	c.Consistent(10 * time.Second)
}

func TestANodeIsLostAndReturns(t *testing.T) {
	c := New(t, "a lost node's containers are out of names, entries and rules everywhere, and back when it returns; managers may be away meanwhile", 3, 2, "busybox:latest")
	s := &soak{C: c, client: c.Lab.Client(), rnd: rand.New(rand.NewPCG(1, 7)), stacks: soakStacks(), plain: map[string]*netlab.Host{}}
	c.Run(c.Hosts[0], "network", "create", "--ipv6", "--attachable", "shared")
	for _, st := range s.stacks {
		st.up, st.replicas, st.more = true, 5, true
	}
	s.restore()
	s.check()
	lost, rest := c.Hosts[4], c.Hosts[:4]
	c.Step("a node is lost", func() {
		c.Lab.Isolate(lost)
		c.down(c.Hosts[0], lost, "shop_front")
		c.Consistent(20*time.Second, rest...)
	})
	c.Step("it returns", func() {
		c.Lab.Heal()
		s.check()
	})
	c.Step("a daemon dies for a while, its machine lives on", func() {
		lost.Kill()
		c.down(c.Hosts[0], lost, "shop_front")
		c.Consistent(20*time.Second, rest...)
		lost.Start()
		s.check()
	})
	c.Step("the workers are cut off together: both sides go on", func() {
		workers, managers := c.Hosts[3:], c.Hosts[:3]
		before, err := c.world(c.Hosts[0])
		if err != nil {
			t.Fatal(err)
		}
		c.Lab.Isolate(workers...)
		s.among(before, workers)
		for _, h := range workers {
			c.down(c.Hosts[0], h, "shop_front")
		}
		c.Consistent(30*time.Second, managers...)
		s.among(s.servers(), managers)
		s.among(before, workers)
		c.Lab.Heal()
		s.check()
	})
	c.Step("no manager answers: containers go on", func() {
		before, err := c.world(c.Hosts[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range c.Hosts[:3] {
			h.Kill()
		}
		lost.Kill() // and a node's daemon starts again, without anybody to ask
		lost.Start()
		for range 3 {
			s.traffic(before)
		}
		for _, h := range c.Hosts[:3] {
			h.Start()
		}
		s.check()
	})
}

// among sends requests between all containers of some hosts, task by task.
func (s *soak) among(w *world, hosts []*netlab.Host) {
	s.Helper()
	var bad []error
	asked := 0
	for _, v := range w.networks {
		here := v
		here.Services, here.Endpoints = nil, nil
		for _, h := range hosts {
			mine, _ := w.sides(v, h)
			here.Endpoints = append(here.Endpoints, mine...)
		}
		for _, e := range here.Endpoints {
			for _, to := range w.goals(here) {
				bad = append(bad, w.reaches(e, to))
				asked++
			}
		}
	}
	s.Logf("  %d requests among %d hosts", asked, len(hosts))
	if err := errors.Join(bad...); err != nil || asked == 0 {
		s.Errorf("%v", err)
	}
}
