package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// patience is how long a verb may take. One that waits for a machine that does
// not answer would take two minutes, until the kernel gives the connection up.
const patience = 40 * time.Second

const verbsStack = `
name: shop
services:
  app:
    image: busybox:latest
    network_mode: host
    command: [sh, -c, 'trap "echo got-hup" HUP; trap "exit 0" TERM; echo begun $$HOSTNAME; while :; do sleep 0.3; echo tick; done']
    stop_grace_period: 1s
    deploy: {replicas: 4}
  each:
    image: busybox:latest
    command: [sh, -c, 'echo here; exec sleep 10000']
    ports: ["8099:80"]
    stop_grace_period: 0s
    deploy: {mode: global}
`

// verbs of the tests: the stack runs on four nodes, three of them managers.
type verbs struct {
	*C
	home map[string]*netlab.Host // by index of app
}

// runningRow is a line of `dhow ps --format json`.
type runningRow struct{ ID, Name, Service, State, Node, Message string }

func (v *verbs) rows(h *netlab.Host, args ...string) (rows []runningRow) {
	v.Helper()
	out := v.Run(h, append([]string{"ps", "--format", "json"}, args...)...)
	for line := range strings.Lines(out) {
		var r runningRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			v.Fatalf("%v: %s", err, line)
		}
		rows = append(rows, r)
	}
	return rows
}

// locate learns where the containers are, and returns those of app by node.
func (v *verbs) locate(h *netlab.Host) map[string]runningRow {
	v.Helper()
	v.home = map[string]*netlab.Host{}
	by := map[string]runningRow{}
	for _, r := range v.rows(h, "app") {
		if r.State == "running" {
			v.home[strings.TrimPrefix(r.Name, "shop-app-")] = v.Host(r.Node)
			by[r.Node] = r
		}
	}
	return by
}

// index of app's container on a host.
func (v *verbs) index(h *netlab.Host) string {
	v.Helper()
	for i, at := range v.home {
		if at == h {
			return i
		}
	}
	v.Fatalf("no container of app on %s: %v", h.Name, v.home)
	return ""
}

// within runs a command that must end in time with a code.
func (v *verbs) within(limit time.Duration, code int, run func() netlab.Result) netlab.Result {
	v.Helper()
	start := time.Now()
	r := run()
	if took := time.Since(start); took > limit {
		v.Errorf("%s took %s", strings.Join(r.Args, " "), took.Round(time.Millisecond))
	}
	if r.Code != code {
		v.Errorf("%s: exit code %d, not %d:\n%s%s", strings.Join(r.Args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	return r
}

// says is within for dhow, which must print some words.
func (v *verbs) says(h *netlab.Host, code int, words string, args ...string) string {
	v.Helper()
	r := v.within(patience, code, func() netlab.Result { return v.Try(h, args...) })
	if !strings.Contains(r.Stdout+r.Stderr, words) {
		v.Errorf("dhow %s lacks %q:\n%s%s", strings.Join(args, " "), words, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// docker is says for docker's own client.
func (v *verbs) docker(h *netlab.Host, code int, words string, args ...string) string {
	v.Helper()
	r := v.within(patience, code, func() netlab.Result { return h.Docker(args...) })
	if !strings.Contains(r.Stdout+r.Stderr, words) {
		v.Errorf("docker %s lacks %q:\n%s%s", strings.Join(args, " "), words, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// follow starts a command in the background and collects what it prints.
func (v *verbs) follow(h *netlab.Host, args ...string) *output {
	v.Helper()
	o := &output{}
	o.cmd = exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.NetNS, h.Bin("dhow"), "--host", h.Socket(), "-p", "shop"}, args...)...)
	o.cmd.Stdout, o.cmd.Stderr = o, o
	if err := o.cmd.Start(); err != nil {
		v.Fatal(err)
	}
	v.Cleanup(o.end)
	return o
}

// output of a command that goes on.
type output struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) end() {
	if o.cmd.ProcessState == nil {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait() // killed
	}
}

// waits until a command in the background has printed words, and returns what it printed.
func (v *verbs) waits(o *output, words ...string) string {
	v.Helper()
	netlab.Eventually(v, 10*time.Second, fmt.Sprintf("%q is printed", words), func() error {
		for _, w := range words {
			if s := o.String(); !strings.Contains(s, w) {
				return fmt.Errorf("%q is missing in:\n%s", w, s)
			}
		}
		return nil
	})
	return o.String()
}

// Every verb works from any node for containers on any node.
func TestVerbs(t *testing.T) {
	netlab.NeedsDocker(t)
	c := New(t, "every verb works from any node for containers on any node", 3, 1, "busybox:latest")
	v := &verbs{C: c}
	c.Compose(verbsStack)
	m1, m2, m3, w := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3]
	c.Step("up from the worker's socket", func() { c.Run(w, "up", "--wait") })
	by := v.locate(w)
	if len(by) != 4 {
		t.Fatalf("one on each node: %v", by)
	}
	c.Step("from a manager and from the worker, for all nodes", func() {
		for _, h := range []*netlab.Host{m2, w} {
			v.healthy(h)
		}
	})
	c.Step("one container on another node, through dhow and docker", func() {
		v.inside(w, m2)
		v.inside(m1, w)
		v.through(w, m3, by[m3.Name].ID)
		v.through(m2, w, by[w.Name].ID)
	})
	c.Step("a terminal", func() { v.terminal(w, m2) })
	c.Step("kill, wait, events", func() { v.control(w, m3) })
}

// healthy is every list from one node.
func (v *verbs) healthy(h *netlab.Host) {
	v.Helper()
	if ps := v.says(h, 0, "NODE", "ps"); strings.Count(ps, "shop-") != 8 {
		v.Errorf("ps:\n%s", ps)
	}
	if logs := v.says(h, 0, "begun", "logs", "app"); strings.Count(logs, "begun") != 4 {
		v.Errorf("logs:\n%s", logs)
	}
	for _, other := range v.Hosts {
		v.says(h, 0, "each-1@"+other.Name+"  | here", "logs", "each")
		v.says(h, 0, "through "+other.Name, "exec", "-T", "--node", other.Name, "app", "echo", "through", other.Name)
		v.says(h, 0, "shop-each-1@"+other.Name, "top", "each")
		if stats := v.says(h, 0, other.Name, "stats", "--no-stream"); strings.Count(stats, "shop-") != 8 {
			v.Errorf("stats:\n%s", stats)
		}
	}
	events := v.says(h, 0, "start", "events", "--json", "--since", "10m", "--until", "0s", "app")
	for _, other := range v.Hosts {
		if !strings.Contains(events, `"node":"`+other.Name+`"`) || strings.Contains(events, "shop-each") {
			v.Errorf("events: %s", events)
		}
	}
	v.says(h, 0, "0.0.0.0:8099", "port", "--node", v.Hosts[0].Name, "each", "80")
	v.says(h, 1, "service app has no running container number 9", "exec", "-T", "--index", "9", "app", "true")
	v.says(h, 1, "no service ap (app?)", "exec", "-T", "ap", "true")
	v.docker(h, 1, "No such container: nosuch", "exec", "nosuch", "true")
	v.docker(h, 0, "active", "info", "--format", "{{.Swarm.LocalNodeState}}")
}

// inside is what dhow does in one container on another node.
func (v *verbs) inside(h, other *netlab.Host) {
	v.Helper()
	i := v.index(other)
	v.says(h, 7, "", "exec", "-T", "--index", i, "app", "sh", "-c", "exit 7")
	v.says(h, 127, "not found", "exec", "-T", "--index", i, "app", "nosuch")
	v.says(h, 126, "permission denied", "exec", "-T", "--index", i, "app", "/etc/passwd")
	r := v.within(patience, 0, func() netlab.Result {
		return h.TryWith(netlab.Input{Dir: v.Dir, Stdin: "from standard input\n"}, "exec", "-T", "--index", i, "app", "sh", "-c", "cat > /tmp/in; wc -c < /tmp/in")
	})
	if strings.TrimSpace(r.Stdout) != "20" {
		v.Errorf("standard input through exec: %+v", r)
	}
	v.says(h, 0, "", "exec", "-d", "--index", i, "app", "touch", "/tmp/detached")
	netlab.Eventually(v, 5*time.Second, "the detached command has run", func() error {
		return v.Try(h, "exec", "-T", "--index", i, "app", "test", "-e", "/tmp/detached").Err()
	})
	// Files, in both directions and as tar through standard input and output.
	file := filepath.Join(v.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o640); err != nil {
		v.Fatal(err)
	}
	v.says(h, 0, "", "cp", "--index", i, file, "app:/tmp/copied")
	back := file + ".back"
	v.says(h, 0, "", "cp", "--index", i, "app:/tmp/copied", back)
	if a, b := contentOf(v, file), contentOf(v, back); !bytes.Equal(a, b) {
		v.Errorf("copied there and back: %d bytes are %d", len(a), len(b))
	}
	stream := v.says(h, 0, "", "cp", "--index", i, "app:/tmp/in", "-")
	hd, err := tar.NewReader(strings.NewReader(stream)).Next()
	if err != nil || hd.Name != "in" || hd.Size != 20 {
		v.Errorf("cp to standard output: %v, %+v", err, hd)
	}
	v.within(patience, 0, func() netlab.Result {
		return h.TryWith(netlab.Input{Dir: v.Dir, Stdin: stream}, "cp", "--index", i, "-", "app:/home")
	})
	v.says(h, 0, "from standard input", "exec", "-T", "--index", i, "app", "cat", "/home/in")
	v.says(h, 1, "no such file or directory", "cp", "--index", i, "app:/nosuch", "-")
}

func contentOf(v *verbs, path string) []byte {
	v.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		v.Error(err)
	}
	return data
}

// through is docker's own client with a container on another node.
func (v *verbs) through(h, other *netlab.Host, id string) {
	v.Helper()
	name := "shop-app-" + v.index(other)
	v.docker(h, 0, "through", "exec", name, "echo", "through")
	v.docker(h, 3, "", "exec", id, "sh", "-c", "exit 3")
	v.docker(h, 127, "not found", "exec", id, "nosuch")
	r := v.within(patience, 0, func() netlab.Result {
		return h.ExecWith(netlab.Input{Env: []string{"DOCKER_HOST=" + h.Socket()}, Stdin: "half-closed\n"}, "docker", "exec", "-i", id[:12], "cat")
	})
	if r.Stdout != "half-closed\n" {
		v.Errorf("docker exec -i: %+v", r)
	}
	v.docker(h, 0, "begun", "logs", name)
	v.docker(h, 0, "running", "inspect", "--format", "{{.State.Status}} {{.Name}}", name)
	v.docker(h, 0, name, "stats", "--no-stream", name)
	v.docker(h, 0, "sleep", "top", name)
	file := filepath.Join(v.TempDir(), "hosts")
	v.docker(h, 0, "", "cp", name+":/etc/hosts", file)
	v.docker(h, 0, "", "cp", file, name+":/tmp/hosts")
	v.docker(h, 0, "localhost", "exec", name, "cat", "/tmp/hosts")
	at := v.followDocker(h, "attach", "--sig-proxy=false", "--no-stdin", name)
	v.waits(at, "tick")
	at.end()
}

// followDocker is follow for docker.
func (v *verbs) followDocker(h *netlab.Host, args ...string) *output {
	v.Helper()
	o := &output{}
	o.cmd = exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.NetNS, "docker"}, args...)...)
	o.cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.Socket())
	o.cmd.Stdout, o.cmd.Stderr = o, o
	if err := o.cmd.Start(); err != nil {
		v.Fatal(err)
	}
	v.Cleanup(o.end)
	return o
}

// control ends a container of another node, and sees that it has ended.
func (v *verbs) control(h, other *netlab.Host) {
	v.Helper()
	waits := v.follow(h, "wait", "app")
	events := v.follow(h, "events", "--since", "1m")
	name := "shop-app-" + v.index(other)
	v.docker(h, 0, name, "kill", "-s", "KILL", name)
	netlab.Eventually(v, 5*time.Second, "wait ends", func() error {
		if !strings.Contains(waits.String(), "137") {
			return errors.New(waits.String())
		}
		return nil
	})
	v.waits(events, "container die", "name="+name, "node="+other.Name)
	events.end()
}

// terminal gives a command on another node a terminal of ours.
func (v *verbs) terminal(h, other *netlab.Host) {
	v.Helper()
	tty := filepath.Join(v.TempDir(), "tty")
	script := fmt.Sprintf("stty rows 31 cols 97; tty > %s; exec nsenter --net=/run/netns/%s %s --host %s -p shop exec --index %s app sh", tty, h.NetNS, h.Bin("dhow"), h.Socket(), v.index(other))
	cmd := exec.Command("script", "-qefc", script, "/dev/null")
	in, err := cmd.StdinPipe()
	if err != nil {
		v.Fatal(err)
	}
	o := &output{cmd: cmd}
	cmd.Stdout, cmd.Stderr = o, o
	if err := cmd.Start(); err != nil {
		v.Fatal(err)
	}
	defer o.end()
	v.waits(o, "# ")
	typed(v, in, "stty size; tty; echo $((6*7))\n")
	v.waits(o, "31 97", "/dev/", "42")
	if out, err := exec.Command("stty", "-F", strings.TrimSpace(string(contentOf(v, tty))), "rows", "22", "cols", "66").CombinedOutput(); err != nil {
		v.Errorf("resize our terminal: %v: %s", err, out)
	}
	netlab.Eventually(v, 5*time.Second, "the command's terminal has the new size", func() error {
		typed(v, in, "stty size\n")
		if s := o.String(); !strings.Contains(s, "22 66") {
			return errors.New(s)
		}
		return nil
	})
	typed(v, in, "exit 9\n")
	netlab.Eventually(v, 5*time.Second, "the shell ends", func() error { return ended(cmd) })
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 9 {
		v.Errorf("the shell's exit code: %v\n%s", err, o)
	}
}

// ended is nil for a process that only waits to be asked for its end.
func ended(cmd *exec.Cmd) error {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil || bytes.Contains(data, []byte(") Z ")) {
		return nil //nolint:nilerr // gone altogether
	}
	return errors.New("it runs")
}

func typed(v *verbs, in io.Writer, keys string) {
	v.Helper()
	if _, err := io.WriteString(in, keys); err != nil {
		v.Error(err)
	}
}
