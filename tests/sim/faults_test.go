package sim

import (
	"bytes"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

var seed = flag.Uint64("seed", 0, "of the one schedule of faults to run; 0: some")

// TestFaults runs random schedules of faults, with what must be true checked
// after every step, and what must come true when all is well again.
func TestFaults(t *testing.T) {
	seeds := []uint64{1, 2}
	if testing.Short() {
		seeds = seeds[:1]
	}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	for _, s := range seeds {
		f, err := NewFaults(s, 200, 60)
		if err != nil {
			t.Fatal(err)
		}
		c := newChecker(f)
		if err := strikeAndHeal(c, 40); err != nil {
			log := f.Log[max(0, len(f.Log)-25):]
			t.Fatalf("go test ./tests/sim -run Faults -seed %d: at %v: %v\n%s", s, f.Now.Sub(Start), err, strings.Join(log, "\n"))
		}
		t.Logf("seed %d: %d things happened in %v, %+v", s, len(f.Log), f.Now.Sub(Start), f.Loop.Stats())
	}
}

// strikeAndHeal strikes again and again, heals in between, and looks whether the cluster settles.
func strikeAndHeal(c *checker, strikes int) error {
	for i := range strikes {
		if err := c.Strike(); err != nil {
			return err
		}
		if err := c.Go(time.Duration(c.rng.IntN(3000))*time.Millisecond, c.Always); err != nil {
			return err
		}
		if i%20 != 19 {
			continue
		}
		if err := c.Heal(); err != nil {
			return err
		}
		if err := c.Go(20*time.Minute, c.Always); err != nil {
			return err
		}
		if err := c.Settled(); err != nil {
			return err
		}
	}
	return nil
}

// TestASeedReplays runs one schedule twice: a failure can be looked into only
// when its seed brings it back.
func TestASeedReplays(t *testing.T) {
	var ends [2][]byte
	var logs [2][]string
	for i := range ends {
		f, err := NewFaults(3, 40, 12)
		if err != nil {
			t.Fatal(err)
		}
		if err := strikeAndHeal(newChecker(f), 40); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := f.Store.Snapshot().Persist(&b); err != nil {
			t.Fatal(err)
		}
		ends[i], logs[i] = b.Bytes(), f.Log
	}
	if !slices.Equal(logs[0], logs[1]) {
		t.Errorf("first:\n%s\nthen:\n%s", strings.Join(logs[0], "\n"), strings.Join(logs[1], "\n"))
	}
	if !bytes.Equal(ends[0], ends[1]) {
		t.Errorf("the states in the end differ: %d and %d bytes", len(ends[0]), len(ends[1]))
	}
}

// TestTheLoopHearsOfWhatPersonsDo: in a cluster where nothing else happens, a
// person's command is followed all the same.
func TestTheLoopHearsOfWhatPersonsDo(t *testing.T) {
	f, err := NewFaults(1, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error { return nil }
	if err := f.Go(time.Hour, check); err != nil {
		t.Fatal(err)
	}
	if next := f.events.first(); !next.IsZero() || !f.wake.IsZero() {
		t.Fatalf("at %v something is to happen still: event %v, wake %v", f.Now, next, f.wake)
	}
	_, sv := f.service("web")
	spec := sv.Spec
	spec.Replicas++
	if err := f.Propose(f.put("s00", spec, false)); err != nil {
		t.Fatal(err)
	}
	if err := f.Go(time.Minute, check); err != nil {
		t.Fatal(err)
	}
	if err := newChecker(f).Settled(); err != nil {
		t.Error(err)
	}
}

// TestALostNodeBesideAServiceAtZero: what depends on that service runs elsewhere.
func TestALostNodeBesideAServiceAtZero(t *testing.T) {
	f, err := NewFaults(1, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := newChecker(f)
	settle := func() {
		t.Helper()
		if err := f.Go(time.Hour, check.Always); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	_, sv := f.service("web")
	spec := sv.Spec
	spec.Replicas = 0
	if err := f.Propose(f.put("s00", spec, false)); err != nil {
		t.Fatal(err)
	}
	settle()
	lost := f.Store.Snapshot().ServiceTasks("s00", "db")[0].Node
	f.Agents[lost].dead = true
	f.Agents[lost].containers = map[string]*container{}
	if err := f.setNode(lost, func(n *stack.Node) { n.Down = true }); err != nil {
		t.Fatal(err)
	}
	settle()
	for _, task := range f.Store.Snapshot().ServiceTasks("s00", "db") {
		if task.Desired == stack.DesiredRun && (task.Node == lost || task.Status.State != stack.TaskRunning) {
			t.Errorf("db.%d on %q: %d %q", task.Slot, task.Node, task.Status.State, task.Status.Message)
		}
	}
	if err := f.comeBack(lost); err != nil {
		t.Fatal(err)
	}
	settle()
	if err := check.Settled(); err != nil {
		t.Error(err)
	}
}
