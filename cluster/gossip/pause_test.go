package gossip

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is a node of its own process when the environment asks for it.
func TestMain(m *testing.M) {
	if join := os.Getenv("DHOW_TEST_GOSSIP"); join != "" {
		other(join)
		return
	}
	os.Exit(m.Run())
}

// other gossips until its standard input ends.
func other(join string) {
	g, err := Open(Config{Node: "other", Bind: "127.0.0.1:0", Keys: [][]byte{testKey}})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go g.Run(ctx)
	if err := g.Join(ctx, strings.Fields(join)); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("joined\n")
	bufio.NewReader(os.Stdin).ReadByte()
}

// TestAPauseIsSurvived: a process that stands still for a moment lives on, one
// that stands still for long is dead until it goes on.
func TestAPauseIsSurvived(t *testing.T) {
	var all []*Gossip
	for _, id := range []string{"n1", "n2", "n3", "n4"} {
		g := start(t, Config{Node: id, Bind: "127.0.0.1:0"})
		if all = append(all, g); len(all) == 1 {
			continue
		}
		if err := g.Join(t.Context(), []string{all[0].Addr()}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DHOW_TEST_GOSSIP="+all[0].Addr()+" "+all[1].Addr())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		await(t, g, "five nodes", func() bool { return count(g) == 5 })
	}
	judged := 0
	for range 10 {
		if pauseOnce(t, cmd, all) {
			judged++
		}
		if judged == 3 {
			break
		}
	}
	if judged == 0 {
		t.Log("SKIPPED: this machine is too busy to tell what a short pause does")
	}
	cmd.Process.Signal(syscall.SIGSTOP)
	for _, g := range all {
		await(t, g, "a long pause noticed", func() bool { return !alive(g, "other") })
	}
	cmd.Process.Signal(syscall.SIGCONT)
	for _, g := range all {
		await(t, g, "its end noticed", func() bool { return alive(g, "other") })
	}
}

// pauseOnce lets the other process stand still for a moment, and fails when it is
// taken for dead within a time in which it would be. On a machine that stands
// still itself that says nothing: false.
func pauseOnce(t *testing.T, cmd *exec.Cmd, all []*Gossip) bool {
	t.Helper()
	since := map[*Gossip]time.Time{}
	for _, g := range all {
		await(t, g, "the other process", func() bool { return alive(g, "other") })
		m, _ := g.Member("other")
		since[g] = m.Since
	}
	still := steady(func() {
		cmd.Process.Signal(syscall.SIGSTOP)
		<-time.After(300 * time.Millisecond)
		cmd.Process.Signal(syscall.SIGCONT)
		<-time.After(2200 * time.Millisecond)
	})
	if still > tooBusy {
		return false
	}
	for _, g := range all {
		if m, _ := g.Member("other"); !m.Alive || m.Since != since[g] {
			t.Errorf("%s took a pause for a death: %+v", g.cfg.Node, m)
		}
	}
	return true
}

// TestIdleTraffic measures what five idle nodes send.
func TestIdleTraffic(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		all := five(t, n)
		<-time.After(time.Second) // the news of the joining have been spread
		total := func() int {
			n.mu.Lock()
			defer n.mu.Unlock()
			sum := 0
			for _, b := range n.sent {
				sum += b
			}
			return sum
		}
		before := total()
		time.Sleep(time.Minute)
		perNode := (total() - before) / 60 / len(all)
		t.Logf("%d bytes per second and node, with IP and UDP headers", perNode)
		if perNode > 3000 {
			t.Errorf("that is more than 3 kB")
		}
	})
}
