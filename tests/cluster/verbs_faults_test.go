package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

const badStack = `
name: bad
services:
  bad:
    image: busybox:latest
    network_mode: host
    command: [sh, -c, 'echo broken by design; exit 3']
    restart: "no"
    deploy: {placement: {constraints: [node.hostname == %s]}}
`

// shop is a cluster of three managers and a worker that run verbsStack.
func shop(t *testing.T, sentence string) *verbs {
	t.Helper()
	netlab.NeedsDocker(t)
	v := &verbs{C: New(t, sentence, 3, 1, "busybox:latest")}
	v.Compose(verbsStack)
	v.Run(v.Hosts[3], "up", "--wait")
	v.locate(v.Hosts[3])
	return v
}

func TestVerbsActOnOtherNodes(t *testing.T) {
	v := shop(t, "start, stop, restart, pause and run work from any node")
	v.acts(v.Hosts[3], v.Hosts[2])
}

func TestVerbsWithASilentNode(t *testing.T) {
	v := shop(t, "a node that hangs is left out by name and holds nothing up")
	v.silent(v.Hosts[1], v.Hosts[3])
}

func TestVerbsWithANodeCutOff(t *testing.T) {
	v := shop(t, "a node that nobody reaches is left out by name and holds nothing up")
	v.cut(v.Hosts[1], v.Hosts[3])
}

func TestVerbsWithADeadNode(t *testing.T) {
	v := shop(t, "a node that is gone is left out by name and holds nothing up; what follows goes on and picks up what replaces")
	v.dead(v.Hosts[1], v.Hosts[3])
}

func TestVerbsWithADeadLeader(t *testing.T) {
	v := shop(t, "right after the leader's death every verb works on the nodes that are left")
	v.leaderless()
}

// acts on services and containers of another node.
func (v *verbs) acts(h, other *netlab.Host) {
	v.Helper()
	name := "shop-app-" + v.index(other)
	v.docker(h, 0, name, "kill", "-s", "KILL", name)
	netlab.Eventually(v, 5*time.Second, "it has ended", func() error {
		if ps := v.Run(h, "ps", "--all", "app"); !strings.Contains(ps, "Exited") {
			return errors.New(ps)
		}
		return nil
	})
	v.docker(h, 0, name, "start", name) // what was killed by hand stays dead
	v.Runs(10*time.Second, "shop", "app", 4)
	v.says(h, 0, "", "kill", "-s", "HUP", "app")
	netlab.Eventually(v, 5*time.Second, "all have the signal", func() error {
		if out := v.Run(h, "logs", "app"); strings.Count(out, "got-hup") != 4 {
			return errors.New(out)
		}
		return nil
	})
	v.says(h, 0, "", "restart", "-t", "0", "each")
	v.says(h, 0, "", "pause", "each")
	if ps := v.Run(h, "ps", "each"); strings.Count(ps, "(Paused)") != 4 {
		v.Errorf("paused:\n%s", ps)
	}
	v.says(h, 0, "", "unpause", "each")
	v.says(h, 0, "", "stop", "each")
	if ps := v.Run(h, "ps", "--all", "each"); strings.Count(ps, "Exited") != 4 {
		v.Errorf("stopped:\n%s", ps)
	}
	v.says(h, 0, "", "start", "each")
	v.says(h, 0, "one-off of h", "run", "--rm", "app", "sh", "-c", "echo one-off of $(hostname)")
	v.says(h, 5, "", "run", "--rm", "app", "sh", "-c", "exit 5")
	if left := v.Run(h, "ps", "--all"); strings.Contains(left, "run") && strings.Contains(left, "one-off") {
		v.Errorf("run --rm leaves something:\n%s", left)
	}
}

// lists are the verbs that leave a node out and end well.
var lists = [][]string{
	{"ps"}, {"logs", "--tail", "1"}, {"top"}, {"stats", "--no-stream"}, {"events", "--since", "2s", "--until", "0s"}, {"kill", "-s", "HUP", "app"}, {"images"},
}

// without runs all verbs side by side while a node does not answer, as the first to notice.
func (v *verbs) without(h, gone *netlab.Host, id string) {
	v.Helper()
	i := v.index(gone)
	var wg sync.WaitGroup
	for _, args := range lists {
		wg.Go(func() { v.says(h, 0, "node "+gone.Name+" is left out", args...) })
	}
	for _, args := range [][]string{{"exec", "-T", "--index", i, "app", "true"}, {"cp", "--index", i, "app:/etc/hosts", "-"}} {
		wg.Go(func() { v.namesOrWorks(h, gone, args...) })
	}
	wg.Go(func() { v.says(h, 0, "", "node", "ls") })
	for _, args := range [][]string{{"exec", id, "true"}, {"inspect", id}, {"cp", id + ":/etc/hosts", "-"}, {"kill", id}} {
		wg.Go(func() { v.docker(h, 1, "node "+gone.Name, args...) })
	}
	wg.Go(func() { v.docker(h, 1, "No such container: nosuch", "exec", "nosuch", "true") })
	wg.Go(func() { v.docker(h, 0, "", "ps") })
	wg.Wait()
}

// namesOrWorks is a verb for one container that was on a node: it says where
// that was, unless its replacement runs already.
func (v *verbs) namesOrWorks(h, gone *netlab.Host, args ...string) {
	v.Helper()
	start := time.Now()
	r := v.Try(h, args...)
	if took := time.Since(start); took > patience {
		v.Errorf("%s took %s", strings.Join(args, " "), took.Round(time.Millisecond))
	}
	if r.Code != 0 && !strings.Contains(r.Stderr, "node "+gone.Name) {
		v.Errorf("dhow %s does not name %s:\n%s", strings.Join(args, " "), gone.Name, r.Stderr)
	}
}

// silent is a node whose daemon hangs.
func (v *verbs) silent(h, gone *netlab.Host) {
	id := v.locate(h)[gone.Name].ID
	logs := v.follow(h, "logs", "-f", "--tail", "0", "app")
	v.waits(logs, "app-"+v.index(gone)+"  | tick")
	gone.Pause()
	v.without(h, gone, id)
	v.waits(logs, "node "+gone.Name+" is left out")
	gone.Continue()
	v.back(h, gone)
	logs.end()
}

// cut is a node that nobody reaches.
func (v *verbs) cut(h, gone *netlab.Host) {
	id := v.locate(h)[gone.Name].ID
	v.Lab.Isolate(gone)
	v.without(h, gone, id)
	v.within(patience, 1, func() netlab.Result { return gone.Try("-p", "shop", "restart", "--wait-timeout", "1", "app") })
	v.Lab.Heal()
	v.back(h, gone)
}

// back waits until the node takes part again and all run once.
func (v *verbs) back(h, gone *netlab.Host) {
	v.Helper()
	netlab.Eventually(v, 15*time.Second, gone.Name+" is back", func() error {
		r := v.Try(h, "ps")
		if r.Code != 0 || strings.Contains(r.Stderr, "left out") || strings.Contains(r.Stdout, "unknown") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	v.Runs(15*time.Second, "shop", "app", 4)
	v.Run(h, "scale", "app=0")
	v.Run(h, "scale", "app=4")
	v.locate(h)
}

// dead is a node that is gone for long: its tasks are replaced elsewhere.
func (v *verbs) dead(h, gone *netlab.Host) {
	id := v.locate(h)[gone.Name].ID
	i := v.index(gone)
	logs := v.follow(h, "logs", "-f", "--tail", "0", "app")
	v.waits(logs, "app-"+i+"  | tick")
	gone.Kill()
	v.without(h, gone, id)
	said := v.waits(logs, "node "+gone.Name+" is left out", "| begun")
	at := strings.Index(said, "| begun")
	line := said[strings.LastIndex(said[:at], "\n")+1 : at]
	if !strings.HasPrefix(line, "app-"+i) || strings.Contains(line, "@"+gone.Name+" ") {
		v.Errorf("the line of the replacement begins with %q", line)
	}
	logs.end()
	if tasks := v.says(h, 0, "node "+gone.Name+" is down", "node", "ps", gone.Name); strings.Count(tasks, "Orphaned") != strings.Count(tasks, "\n")-1 {
		v.Errorf("tasks of a node that is down:\n%s", tasks)
	}
	v.says(h, 0, "Down", "node", "ls")
	v.docker(h, 0, "3", "info", "--format", "{{len .Swarm.RemoteManagers}}")
	v.docker(v.Others(gone)[0], 0, "3", "info", "--format", "{{len .Swarm.RemoteManagers}}")
	v.says(h, 0, "", "up", "--wait")
	v.failing(h, v.Others(gone, h)[0])
	gone.Start()
	v.back(h, gone)
}

// failing is up of a service that fails on another node: it shows why.
func (v *verbs) failing(h, other *netlab.Host) {
	v.Helper()
	file := filepath.Join(v.Dir, "bad.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, badStack, other.Name), 0o644); err != nil {
		v.Fatal(err)
	}
	v.says(h, 1, "broken by design", "-f", "bad.yaml", "up", "--wait")
	v.says(h, 0, "", "-f", "bad.yaml", "down")
}

// leaderless asks right after the leader has died, from each that is left.
func (v *verbs) leaderless() {
	leader := v.Leader(v.Hosts[0])
	leader.Kill()
	rest := v.Others(leader)
	var wg sync.WaitGroup
	for _, h := range rest {
		for _, args := range lists {
			wg.Go(func() { v.says(h, 0, "node "+leader.Name+" is left out", args...) })
		}
		wg.Go(func() { v.says(h, 0, "through", "exec", "-T", "--node", rest[0].Name, "each", "echo", "through") })
		wg.Go(func() { v.says(h, 0, "Leader", "node", "ls") })
	}
	wg.Wait()
	v.says(rest[0], 0, "", "restart", "-t", "0", "--wait-timeout", "30", "app")
	leader.Start()
	v.back(rest[0], leader)
}
