package cluster

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

var soakFor = flag.Duration("soak", 2*time.Minute, "how long the soak of networks goes on")

// soak is a cluster whose stacks, containers and machines change at random.
type soak struct {
	*C
	rnd    *rand.Rand
	client *netlab.Host // a machine outside
	stacks []*soakStack
	plain  map[string]*netlab.Host // containers made by hand, by name
	made   int                     // of these
	steps  []string
	undo   []func()
	away   []*netlab.Host // that do not answer in this round
	dead   bool           // the one that is away has no daemon
}

// soakStack is one stack as it should be.
type soakStack struct {
	name     string
	text     func(s *soakStack) string
	up       bool
	replicas int
	version  int
	more     bool // an alias or a network more than otherwise
}

// says is a service that answers with its name.
func says(name, rest string) string {
	return fmt.Sprintf(`    image: busybox:latest
    command: [sh, -c, "mkdir -p /w; echo %s > /w/index.html; exec httpd -f -p 80 -h /w"]
    stop_signal: SIGKILL
%s`, name, rest)
}

func soakStacks() []*soakStack {
	return []*soakStack{
		{name: "shop", text: func(s *soakStack) string {
			alias := map[bool]string{true: "[www, more]", false: "[www]"}[s.more]
			return "name: shop\nservices:\n  web:\n" + says("shop/web", fmt.Sprintf(`    ports: ["8080:80"]
    labels: {version: "%d"}
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 1s, timeout: 2s, retries: 5, start_period: 20s, start_interval: 300ms}
    deploy: {replicas: %d, update_config: {parallelism: 0, monitor: 0s}}
    networks: {front: {}, shared: {aliases: %s}}
`, s.version, s.replicas, alias)) + "  db:\n" + says("shop/db", "    networks: [back]\n") +
				"  each:\n" + says("shop/each", "    deploy: {mode: global}\n    networks: [front, back]\n") +
				"networks:\n  front:\n  back: {internal: true}\n  shared: {external: true}\n"
		}},
		{name: "blog", text: func(s *soakStack) string {
			more := map[bool][2]string{true: {"more: {}, ", "  more:\n"}}[s.more]
			return "name: blog\nservices:\n  app:\n" + says("blog/app", fmt.Sprintf(`    ports: ["8090:80"]
    labels: {version: "%d"}
    x-dhow: {sticky: true}
    deploy: {replicas: %d, update_config: {parallelism: 0, monitor: 0s, order: start-first}}
    networks: {%sdual: {gw_priority: 1}}
`, s.version, s.replicas, more[0])) + "  rr:\n" + says("blog/rr", "    deploy: {replicas: 2, endpoint_mode: dnsrr}\n    networks: [dual, shared]\n") +
				"networks:\n" + more[1] + "  dual: {enable_ipv6: true}\n  shared: {external: true}\n"
		}},
		{name: "tool", text: func(s *soakStack) string {
			return "name: tool\nservices:\n  fixed:\n" + says("tool/fixed", fmt.Sprintf("    labels: {version: \"%d\"}\n    networks: {lan: {ipv4_address: 10.20.0.10}}\n", s.version)) +
				"  near:\n" + says("tool/near", fmt.Sprintf(`    ports: ["8095:80", {target: 80, published: "8099", mode: host}]
    x-dhow: {prefer_local: true}
    deploy: {replicas: %d, placement: {max_replicas_per_node: 1}}
    networks: {lan: {gw_priority: 1}, shared: {}}
`, min(s.replicas, 3))) + "networks:\n  lan: {ipam: {config: [{subnet: 10.20.0.0/24}]}}\n  shared: {external: true}\n"
		}},
	}
}

func TestKernelsStayWhatTheStateSays(t *testing.T) {
	c := New(t, "after random changes, faults and damage, kernels and names on all machines are what the replicated state says, and containers reach each other", 3, 2, "busybox:latest")
	seed := seedOf(t)
	s := &soak{C: c, client: c.Lab.Client(), rnd: rand.New(rand.NewPCG(seed, 7)), stacks: soakStacks(), plain: map[string]*netlab.Host{}}
	defer func() {
		if t.Failed() {
			t.Logf("DHOW_SEED=%d; the steps were:\n%s", seed, strings.Join(s.steps, "\n"))
		}
	}()
	t.Logf("seed %d; DHOW_SEED repeats the schedule", seed)
	c.Run(c.Hosts[0], "network", "create", "--ipv6", "--attachable", "shared")
	for _, st := range s.stacks {
		st.up, st.replicas = true, 3
	}
	s.restore()
	s.check()
	end := time.Now().Add(*soakFor)
	rounds, steps := 0, 0
	for ; time.Now().Before(end) && !t.Failed(); rounds++ {
		for range 1 + s.rnd.IntN(3) {
			s.step()
			steps++
			time.Sleep(time.Duration(s.rnd.IntN(1500)) * time.Millisecond)
		}
		if len(s.away) > 0 && s.rnd.IntN(2) == 0 { // until it is taken for lost, and its tasks are elsewhere
			time.Sleep(time.Duration(2+s.rnd.IntN(6)) * time.Second)
		}
		s.recover()
		s.restore()
		s.check()
	}
	t.Logf("%d rounds, %d steps", rounds, steps)
}

// note tells of a step.
func (s *soak) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.steps = append(s.steps, time.Now().Format("15:04:05.000 ")+text)
	s.Log("  " + text)
}

// host is one that answers.
func (s *soak) host() *netlab.Host {
	list := s.Others(s.away...)
	return list[s.rnd.IntN(len(list))]
}

// step does one random thing.
func (s *soak) step() {
	switch n := s.rnd.IntN(16); {
	case n < 4:
		s.change()
	case n < 5:
		s.killContainer()
	case n < 6:
		s.oneOff()
	case n < 8:
		s.byHand()
	case n < 11:
		s.damage()
	default:
		s.fault()
	}
}

// change changes a stack, or takes it down.
func (s *soak) change() {
	st := s.stacks[s.rnd.IntN(len(s.stacks))]
	switch n := s.rnd.IntN(6); {
	case n == 0 && st.up:
		st.up = false
	default:
		st.up, st.replicas, st.more = true, 1+s.rnd.IntN(6), s.rnd.IntN(2) == 0
		st.version += s.rnd.IntN(2)
	}
	h := s.host()
	s.note("%s through %s: up %v, %d replicas, version %d, more %v", st.name, h.Name, st.up, st.replicas, st.version, st.more)
	if err := s.bring(h, st, 30*time.Second); err != nil { // it may be done or not: again when all is well
		s.note("  %v", err)
	}
}

// bring makes a stack what it should be.
func (s *soak) bring(h *netlab.Host, st *soakStack, limit time.Duration) error {
	file := filepath.Join(s.Dir, st.name+".yaml")
	if err := os.WriteFile(file, []byte(st.text(st)), 0o644); err != nil {
		return err
	}
	args := []string{"-f", file, "up", "-d"}
	if !st.up {
		args = []string{"-f", file, "down"}
	}
	return h.TryWith(netlab.Input{Dir: s.Dir, Timeout: limit}, args...).Err()
}

// killContainer ends the program of a container, over its daemon's head.
func (s *soak) killContainer() {
	h := s.Hosts[s.rnd.IntN(len(s.Hosts))]
	st := s.stacks[s.rnd.IntN(len(s.stacks))]
	for _, service := range []string{"web", "app", "near", "rr", "db", "fixed"} {
		if list := processes(h, st.name, service); len(list) > 0 {
			p := list[s.rnd.IntN(len(list))]
			s.note("kill %s of %s on %s", p.place, st.name, h.Name)
			if process, err := os.FindProcess(p.pid); err == nil {
				_ = process.Kill() // it may have ended
			}
			return
		}
	}
}

// oneOff runs a container of a service beside its tasks, or starts its tasks anew.
func (s *soak) oneOff() {
	h, st := s.host(), s.stacks[s.rnd.IntN(len(s.stacks))]
	service := map[string]string{"shop": "db", "blog": "app", "tool": "fixed"}[st.name]
	args := []string{"-p", st.name, "restart", service}
	if s.rnd.IntN(2) == 0 {
		args = []string{"-f", filepath.Join(s.Dir, st.name+".yaml"), "run", "--rm", "-T", "--no-deps", service, "wget", "-q", "-O", "-", "http://" + service + "/"}
	}
	s.note("%s on %s", strings.Join(args, " "), h.Name)
	r := h.TryWith(netlab.Input{Dir: s.Dir, Timeout: 20 * time.Second}, args...)
	if err := r.Err(); err != nil { // its service may be gone, or somewhere else
		s.note("  %v", err)
	}
}

// byHand makes a container in the shared network, or removes one.
func (s *soak) byHand() {
	for _, name := range slices.Sorted(maps.Keys(s.plain)) {
		h := s.plain[name]
		if s.rnd.IntN(3) > 0 || slices.Contains(s.away, h) {
			continue
		}
		s.note("remove %s on %s", name, h.Name)
		if err := s.remove(h, name); err != nil {
			s.note("  %v", err)
		}
		return
	}
	h := s.host()
	s.made++
	name := fmt.Sprintf("hand%d", s.made)
	s.note("make %s on %s", name, h.Name)
	body, _ := json.Marshal(map[string]any{
		"Image": "busybox:latest", "Cmd": []string{"sleep", "1000000"}, "StopSignal": "SIGKILL",
		"HostConfig": map[string]any{"NetworkMode": "shared"},
	})
	if err := post(h, "/containers/create?name="+name, string(body)); err != nil {
		s.note("  %v", err)
		return
	}
	s.plain[name] = h
	if err := post(h, "/containers/"+name+"/start", ""); err != nil {
		s.note("  %v", err)
	}
}

func post(h *netlab.Host, path, body string) error {
	return h.Exec("curl", "-sS", "--max-time", "30", "--fail-with-body", "--unix-socket", filepath.Join(h.RunDir, "dhow.sock"),
		"-X", "POST", "-H", "Content-Type: application/json", "-d", body, "http://dhow"+path).Err()
}

func (s *soak) remove(h *netlab.Host, name string) error {
	err := h.Exec("curl", "-sS", "--max-time", "30", "--fail-with-body", "--unix-socket", filepath.Join(h.RunDir, "dhow.sock"),
		"-X", "DELETE", "http://dhow/containers/"+name+"?force=1").Err()
	if err == nil {
		delete(s.plain, name)
	}
	return err
}

// fault harms a machine until the end of the round.
func (s *soak) fault() {
	h := s.Hosts[s.rnd.IntN(len(s.Hosts))]
	if len(s.away) > 0 {
		h = s.away[0] // one machine at a time: most of the managers are to be there
	}
	other := s.Others(h)[s.rnd.IntN(len(s.Hosts)-1)]
	switch s.rnd.IntN(8) {
	case 0, 1:
		if !s.dead {
			s.note("kill %s", h.Name)
			h.Kill()
			h.Start()
		}
	case 2:
		if len(s.away) == 0 {
			s.note("%s is dead", h.Name)
			h.Kill()
			s.dead = true
			s.gone(h, func() { h.Start() })
		}
	case 3:
		if len(s.away) == 0 {
			h = s.Leader(other)
			s.note("leader %s is dead", h.Name)
			h.Kill()
			s.dead = true
			s.gone(h, func() { h.Start() })
		}
	case 4:
		s.note("isolate %s", h.Name)
		s.Lab.Isolate(h)
		s.gone(h, s.Lab.Heal)
	case 5:
		s.note("cut the way from %s to %s", h.Name, other.Name)
		s.Lab.Cut(h, other)
		s.gone(h, s.Lab.Heal)
	case 6:
		if len(s.away) == 0 {
			s.note("pause %s", h.Name)
			h.Pause()
			s.gone(h, h.Continue)
		}
	case 7:
		by := s.host()
		s.note("drain %s", h.Name)
		if err := by.Try("node", "update", "--availability", "drain", h.Name).Err(); err != nil {
			s.note("  %v", err)
		}
		s.undo = append(s.undo, func() {
			netlab.Eventually(s, 20*time.Second, "the node is active again", func() error {
				return by.Try("node", "update", "--availability", "active", h.Name).Err()
			})
		})
	}
}

func (s *soak) gone(h *netlab.Host, undo func()) {
	if !slices.Contains(s.away, h) {
		s.away = append(s.away, h)
	}
	s.undo = append(s.undo, undo)
}

// recover ends all faults of the round.
func (s *soak) recover() {
	s.Lab.Heal()
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	s.undo, s.away, s.dead = nil, nil, false
}

// restore brings all stacks into the state in which they should be.
func (s *soak) restore() {
	s.Helper()
	for _, st := range s.stacks {
		netlab.Eventually(s, 40*time.Second, st.name+" is applied", func() error { return s.bring(s.host(), st, time.Minute) })
	}
}

// damages are what somebody may do to a host's kernel by hand; LINK is one of
// our tunnels, TABLE our table, BRIDGE one of our bridges.
var damages = []string{
	`ip link del $(ip -o link show type vxlan | cut -d: -f2 | shuf -n1 --random-source=SEED)`,
	`ip link set $(ip -o link show type vxlan | cut -d: -f2 | shuf -n1 --random-source=SEED) down`,
	`bridge fdb show | grep 'dst ' | shuf -n1 --random-source=SEED | { read mac dev link rest; bridge fdb del $mac dev $link self; bridge fdb del $mac dev $link master; }`,
	`ip neigh show nud permanent | shuf -n1 --random-source=SEED | { read ip dev link rest; ip neigh del $ip dev $link; }`,
	`nft flush ruleset`,
	`T=$(nft list tables | grep -o 'dhow_....$'); nft delete table inet $T`,
	`T=$(nft list tables | grep -o 'dhow_....$'); C=$(nft list table inet $T | grep -o 'chain vip[^ ]*' | cut -d' ' -f2 | shuf -n1 --random-source=SEED); nft flush chain inet $T $C`,
	`T=$(nft list tables | grep -o 'dhow_....$'); nft flush chain inet $T prerouting`,
	`ip route show table all proto 68 | shuf -n1 --random-source=SEED | { read route; ip route del ${route%onlink*}; }`,
	`ip rule show | grep 'proto 68' | shuf -n1 --random-source=SEED | { read pref rest; ip rule del pref ${pref%:}; }`,
	`ip addr flush dev $(ip -o link show type bridge | cut -d: -f2 | shuf -n1 --random-source=SEED)`,
	`ip link del $(ip -o link show type bridge | cut -d: -f2 | shuf -n1 --random-source=SEED)`,
}

func (s *soak) damage() {
	h := s.Hosts[s.rnd.IntN(len(s.Hosts))]
	seed := filepath.Join(s.Dir, "seed")
	bytes := make([]byte, 4096)
	for i := range bytes {
		bytes[i] = byte(s.rnd.Uint32())
	}
	if err := os.WriteFile(seed, bytes, 0o644); err != nil {
		s.Fatal(err)
	}
	program := strings.ReplaceAll(damages[s.rnd.IntN(len(damages))], "SEED", seed)
	r := h.Exec("sh", "-c", "set -x; "+program)
	lines := strings.Split(strings.TrimSpace(r.Stderr), "\n")
	s.note("damage on %s: %s", h.Name, strings.Join(lines[max(0, len(lines)-2):], " | "))
}

// check waits until everything is as it should be, and tries it.
func (s *soak) check() {
	s.Helper()
	start := time.Now()
	netlab.Eventually(s, 45*time.Second, "everything is as it should be", func() error {
		if err := s.settled(); err != nil {
			return err
		}
		return s.consistent(s.Hosts)
	})
	w := s.servers()
	asked := s.traffic(w)
	s.note("right after %s; %d requests", time.Since(start).Round(10*time.Millisecond), asked)
}

// servers is what the managers hold, when all servers in it answer.
func (s *soak) servers() (w *world) {
	s.Helper()
	netlab.Eventually(s, 20*time.Second, "all servers listen", func() (err error) {
		if w, err = s.world(s.Hosts[0]); err != nil {
			return err
		}
		return w.serving()
	})
	return w
}

// settled says what of stacks and containers is not yet as it should be.
func (s *soak) settled() error {
	var list []api.StackStatus
	if err := ask(s.Hosts[0], "/dhow/v1/stacks", &list); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, st := range list {
		known[st.Stack.Name] = true
		for _, sv := range st.Services {
			if !sv.Ready || sv.Moving > 0 || sv.Update != nil && sv.Update.State == stack.Updating {
				return fmt.Errorf("%s/%s: %d of %d run, %d healthy, %d moving: %s", st.Stack.Name, sv.Name, sv.Running, sv.Wanted, sv.Healthy, sv.Moving, sv.Message)
			}
		}
		for _, t := range st.Tasks {
			if t.Desired != stack.DesiredRun || t.Status.State != stack.TaskRunning || t.Draining != 0 {
				return fmt.Errorf("task %s.%d is %v, is to %s", t.Key(), t.Slot, t.Status.State, t.Desired)
			}
		}
	}
	for _, st := range s.stacks {
		if known[st.name] != st.up {
			return fmt.Errorf("stack %s: there is one %v, there should be %v", st.name, known[st.name], st.up)
		}
	}
	return nil
}

// traffic sends requests between random containers, from outside to published
// ports, and to where none may go. It returns how many.
func (s *soak) traffic(w *world) (asked int) {
	s.Helper()
	var bad []error
	names := slices.Sorted(maps.Keys(w.networks))
	for range 40 {
		v := w.networks[names[s.rnd.IntN(len(names))]]
		if len(v.Endpoints) == 0 {
			continue
		}
		asker := v.Endpoints[s.rnd.IntN(len(v.Endpoints))]
		if to := w.goals(v); asker.Up && len(to) > 0 {
			bad = append(bad, w.reaches(asker, to[s.rnd.IntN(len(to))]))
			asked++
		}
		other := w.networks[names[s.rnd.IntN(len(names))]]
		if to := w.goals(other); asker.Up && len(to) > 0 && !w.member(other, asker) && s.rnd.IntN(4) == 0 {
			bad = append(bad, w.reachesNot(asker, to[s.rnd.IntN(len(to))]))
			asked++
		}
	}
	for _, st := range w.stacks {
		for _, sv := range st.Stack.Services {
			for _, p := range sv.IngressPorts() {
				h := s.Hosts[s.rnd.IntN(len(s.Hosts))]
				to := goal{fmt.Sprintf("http://%s:%d/", h.Addr, p.HostPort), st.Stack.Name + "/" + sv.Name}
				bad = append(bad, to.from("outside", "/run/netns/"+s.client.NetNS))
				asked++
			}
		}
	}
	if err := errors.Join(bad...); err != nil {
		s.Errorf("of %d requests failed:\n%v", asked, err)
	}
	return asked
}
