package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/stack"
)

// session is a client of dispatch that says what a test tells it.
type session struct {
	mu          sync.Mutex
	tasks       []stack.Assignment
	from, until time.Time
	asked       func() // called when the tasks are
}

func (s *session) Assignments(string) []stack.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		s.asked()
	}
	return s.tasks
}
func (s *session) Changed() <-chan struct{}                         { return nil }
func (s *session) Report(context.Context, []stack.TaskReport) error { return nil }
func (s *session) Term() (from, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from, s.until
}

func (s *session) grant(h *hands) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.until = h.mono, h.mono.Add(firstLease)
}

func tasks(exclusive ...bool) (list []stack.Assignment) {
	for _, x := range exclusive {
		list = append(list, stack.Assignment{Task: stack.Task{Desired: stack.DesiredRun}, Service: &stack.Service{Exclusive: x}})
	}
	return list
}

// fencing is a fence with what it needs. Its clock begins an hour after boot.
type fencing struct {
	*testing.T
	*hands
	*session
	cfg   fenceConfig
	f     *fence
	alone bool
}

func newFencing(t *testing.T, alone bool, list []stack.Assignment) *fencing {
	x := &fencing{T: t, hands: newHands(), session: &session{tasks: list}, alone: alone}
	x.cfg = fenceConfig{client: x.session, file: filepath.Join(t.TempDir(), "lease"), alone: func() bool { return x.alone }, clock: x.hands.clock(), log: slog.New(slog.DiscardHandler)}
	x.f = newFence(x.cfg)
	return x
}

// shows checks what the agent is told to do with each task, and the file.
func (x *fencing) shows(what string, end int64, want ...stack.Desired) {
	x.Helper()
	list := x.f.Assignments("n")
	for i, w := range want {
		if got := list[i].Task.Desired; got != w {
			x.Errorf("%s: task %d: %s, want %s", what, i, got, w)
		}
	}
	got, err := lease.Read(x.cfg.file)
	if err != nil && !os.IsNotExist(err) || got != end {
		x.Errorf("%s: the file says %v, %v, want %v", what, time.Duration(got), err, time.Duration(end))
	}
}

func TestWhatIsExclusiveRunsUnderALeaseOnly(t *testing.T) {
	x := newFencing(t, false, tasks(true, false))
	x.shows("no lease yet", 0, stack.DesiredCreate, stack.DesiredRun)
	x.grant(x.hands)
	end := x.boot + int64(firstLease)
	x.shows("a lease", end, stack.DesiredRun, stack.DesiredRun)
	x.run(firstLease - early - time.Millisecond)
	x.shows("almost to its end", end, stack.DesiredRun, stack.DesiredRun)
	x.run(time.Millisecond)
	x.shows("near its end", end, stack.DesiredRemove, stack.DesiredRun)
	x.grant(x.hands)
	x.shows("again", x.boot+int64(firstLease), stack.DesiredRun, stack.DesiredRun)
	x.sleep(time.Hour)
	x.shows("after a night", end+int64(firstLease-early), stack.DesiredRemove, stack.DesiredRun)
	if x.session.tasks[0].Task.Desired != stack.DesiredRun {
		t.Error("the session's own list was changed")
	}
}

func TestWithoutExclusiveTasksNoFileIsKept(t *testing.T) {
	x := newFencing(t, false, tasks(false))
	x.grant(x.hands)
	x.shows("none", 0, stack.DesiredRun)
	x.session.tasks = tasks(true)
	x.shows("one", x.boot+int64(firstLease), stack.DesiredRun)
}

// Who has no session for a lease's time after its start gives up.
func TestALeaseThatNeverComes(t *testing.T) {
	x := newFencing(t, false, tasks(true))
	x.shows("at the start", 0, stack.DesiredCreate)
	x.run(firstLease)
	x.shows("later", 0, stack.DesiredRemove)
}

// The next daemon goes on under the lease that the one before has left.
func TestARestartedDaemonInheritsTheLease(t *testing.T) {
	x := newFencing(t, false, tasks(true))
	x.grant(x.hands)
	end := x.boot + int64(firstLease)
	x.shows("before", end, stack.DesiredRun)
	x.run(time.Second)
	x.session.from, x.session.until = time.Time{}, time.Time{}
	x.f = newFence(x.cfg)
	x.shows("after", end, stack.DesiredRun)
	x.run(firstLease - early - time.Second)
	x.shows("no session came", end, stack.DesiredRemove)
	x.f = newFence(x.cfg)
	x.shows("one that begins after the end", end, stack.DesiredCreate)
}

// Alone, there is nobody else to run anything; that ends when others come.
func TestAMachineAlone(t *testing.T) {
	x := newFencing(t, true, tasks(true))
	x.shows("alone", lease.Never, stack.DesiredRun)
	x.run(time.Hour)
	x.shows("for long", lease.Never, stack.DesiredRun)
	x.alone = false // it opens its cluster to others, and goes on as it is
	x.grant(x.hands)
	end := x.boot + int64(firstLease)
	x.shows("with others", end, stack.DesiredRun)
	x.run(firstLease)
	x.shows("that are gone", end, stack.DesiredRemove)
	x.alone = true
	x.shows("alone again", lease.Never, stack.DesiredRun)
	x.alone = false // it enters another cluster with its next epoch
	x.session.from, x.session.until = time.Time{}, time.Time{}
	x.f = newFence(x.cfg)
	x.shows("in another cluster", x.boot+int64(firstLease), stack.DesiredRun)
}

// A lease is for what was told with it, not for what was told before.
func TestALeaseThatComesWhileTheTasksAreRead(t *testing.T) {
	x := newFencing(t, false, tasks(true))
	reads := 0
	x.session.asked = func() {
		if reads++; reads == 1 { // the list was read; then it changes, and the lease comes
			defer func() {
				x.session.from, x.session.until = x.mono, x.mono.Add(firstLease)
			}()
			return
		}
		gone := tasks(true)
		gone[0].Task.Desired = stack.DesiredRemove
		x.session.tasks = gone
	}
	x.shows("the new list", x.boot+int64(firstLease), stack.DesiredRemove)
}

func TestALeaseThatCannotBeWrittenDoesNotCount(t *testing.T) {
	x := newFencing(t, false, tasks(true))
	x.cfg.file = filepath.Join(x.cfg.file, "no", "such", "directory")
	x.f = newFence(x.cfg)
	x.grant(x.hands)
	if got := x.f.Assignments("n")[0].Task.Desired; got == stack.DesiredRun {
		t.Error(got)
	}
}

// run keeps the file at the lease, and tells the agent of its end.
func TestTheFileFollowsTheLease(t *testing.T) {
	x := newFencing(t, false, tasks(true))
	x.cfg.clock = bootClock
	x.f = newFence(x.cfg)
	now := newHands()
	x.grant(now)
	x.f.Assignments("n")
	first, err := lease.Read(x.cfg.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- x.f.run(ctx) }()
	changed := x.f.Changed()
	now.run(time.Second)
	x.grant(now)
	deadline := time.After(time.Minute)
	for second := first; second == first; {
		select {
		case <-deadline:
			t.Fatal("the file does not follow")
		case <-time.After(10 * time.Millisecond):
		}
		if second, err = lease.Read(x.cfg.file); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-changed:
	case <-deadline:
		t.Fatal("the end is not told")
	}
	if got := x.f.Assignments("n")[0].Task.Desired; got != stack.DesiredRemove {
		t.Error(got)
	}
	cancel()
	<-done
}
