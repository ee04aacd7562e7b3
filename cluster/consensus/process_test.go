package consensus

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
)

// sockets is a Stream over unix sockets in a directory.
type sockets struct {
	net.Listener
	dir, id string
}

func (s sockets) Addr() net.Addr { return nodeAddr(s.id) }

func (s sockets) Dial(node string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("unix", filepath.Join(s.dir, node+".sock"), timeout)
}

// serveChild is a manager in a process of its own. It does what lines on its
// input say, and answers each with one line.
func serveChild(dir, id string) {
	path := filepath.Join(dir, id+".sock")
	_ = os.Remove(path) // of the one that was killed
	ln, err := net.Listen("unix", path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	store := state.New()
	l, err := Open(Config{Dir: filepath.Join(dir, id), ID: id, Store: store, Stream: sockets{ln, dir, id}, Join: id != "a", SnapshotThreshold: 64, TrailingLogs: 16})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println(childDoes(l, store, in.Text()))
	}
	os.Exit(0)
}

func childDoes(l *Log, store *state.Store, line string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "put":
		key, value, _ := strings.Cut(arg, " ")
		_, err = l.Apply(ctx, put(key, value))
	case "get":
		if err = l.Verify(ctx); err == nil {
			return "got " + get(store, arg)
		}
	case "add":
		err = l.AddVoter(ctx, arg)
	case "sum":
		h := sha256.New()
		_ = store.Snapshot().Persist(h) // a hash does not fail
		return fmt.Sprintf("sum %d %x", store.Snapshot().Index(), h.Sum(nil))
	}
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNotLeader):
		return "notleader"
	}
	return err.Error()
}

// child is a manager process.
type child struct {
	id  string
	cmd *exec.Cmd

	mu  sync.Mutex // one question at a time
	in  io.Writer
	out *bufio.Scanner
}

func mustChild(t *testing.T, dir, id string) *child {
	t.Helper()
	c := &child{id: id, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "CONSENSUS_TEST_CHILD="+id, "CONSENSUS_TEST_DIR="+dir)
	in, err := c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	c.in, c.out = in, bufio.NewScanner(out)
	must(t, c.cmd.Start())
	t.Cleanup(c.kill)
	if !c.out.Scan() || c.out.Text() != "open" {
		t.Fatalf("child %s: %q", id, c.out.Text())
	}
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be dead
	_ = c.cmd.Wait()         // it was killed
}

// ask returns "" when the child is dead.
func (c *child) ask(line string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintln(c.in, line); err != nil || !c.out.Scan() {
		return ""
	}
	return c.out.Text()
}

// askLeader asks all children in turn until one does what the line says; it returns its answer and that child.
func askLeader(t *testing.T, cs []*child, line string) (string, *child) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		for _, c := range cs {
			if got := c.ask(line); got == "ok" || strings.HasPrefix(got, "got ") {
				return got, c
			}
		}
	}
	t.Fatalf("nobody could %q", line)
	return "", nil
}

func mustChildren(t *testing.T, dir string) []*child {
	t.Helper()
	cs := []*child{mustChild(t, dir, "a")}
	for _, id := range []string{"b", "c"} {
		cs = append(cs, mustChild(t, dir, id))
		askLeader(t, cs, "add "+id)
	}
	return cs
}

// mustSameSums waits until all children have the same state.
func mustSameSums(t *testing.T, cs []*child) {
	t.Helper()
	askLeader(t, cs, "put end end")
	var sums []string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		sums = sums[:0]
		for _, c := range cs {
			sums = append(sums, c.ask("sum"))
		}
		if sums[0] != "" && sums[0] == sums[1] && sums[1] == sums[2] {
			return
		}
	}
	t.Fatalf("states differ: %v", sums)
}

// Any minority is killed, the leader among them, while commands are stored: none
// that was acknowledged is lost.
func TestKilledProcessesLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cs := mustChildren(t, dir)
	acked, n := map[string]string{}, 0
	for round := range 4 {
		for range 40 {
			n++
			key, value := fmt.Sprint("k", n%50), fmt.Sprint(n)
			askLeader(t, cs, "put "+key+" "+value)
			acked[key] = value
		}
		_, lead := askLeader(t, cs, "get k1")
		victim := round % 3
		if round%2 == 0 {
			for i, c := range cs {
				if c == lead {
					victim = i
				}
			}
		}
		cs[victim].kill()
		start := time.Now()
		askLeader(t, cs, "put after kill")
		t.Logf("killed %s (leader: %t), next write after %s", cs[victim].id, cs[victim] == lead, time.Since(start).Round(time.Millisecond))
		for key, want := range acked {
			if got, _ := askLeader(t, cs, "get "+key); got != "got "+want {
				t.Fatalf("%s: %q, acknowledged was %q", key, got, want)
			}
		}
		cs[victim] = mustChild(t, dir, cs[victim].id)
		mustSameSums(t, cs)
	}
}

// A leader that is stopped and wakes up later neither commits nor answers as if
// it led still.
func TestPausedLeaderCommitsNothing(t *testing.T) {
	t.Parallel()
	cs := mustChildren(t, t.TempDir())
	askLeader(t, cs, "put k before")
	_, old := askLeader(t, cs, "get k")
	must(t, old.cmd.Process.Signal(syscall.SIGSTOP))
	mustBeStopped(t, old.cmd.Process.Pid)
	var rest []*child
	for _, c := range cs {
		if c != old {
			rest = append(rest, c)
		}
	}
	// Questions wait at its door while it sleeps, and are the first that it meets.
	answers := make(chan string)
	go func() {
		answers <- old.ask("get k")
		answers <- old.ask("put k stale")
	}()
	askLeader(t, rest, "put k after")
	must(t, old.cmd.Process.Signal(syscall.SIGCONT))
	for _, what := range []string{"read", "write"} {
		if got := <-answers; got == "ok" || strings.HasPrefix(got, "got ") && got != "got after" {
			t.Errorf("%s on the paused leader: %q", what, got)
		}
	}
	if got, _ := askLeader(t, cs, "get k"); got != "got after" {
		t.Errorf("%q", got)
	}
	mustSameSums(t, cs)
}

// mustBeStopped waits until no thread of a process runs any more.
func mustBeStopped(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		must(t, err)
		stopped := 0
		for _, name := range stats {
			data, _ := os.ReadFile(name) // a thread may have ended
			if _, after, ok := strings.Cut(string(data), ") "); ok && after[0] == 'T' {
				stopped++
			}
		}
		if stopped > 0 && stopped == len(stats) {
			return
		}
	}
	t.Fatal("the process was not stopped")
}
