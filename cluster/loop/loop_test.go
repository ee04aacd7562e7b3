package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// world is a store with a loop and nodes that never answer.
type world struct {
	t        *testing.T
	store    *state.Store
	loop     *Loop
	now      time.Time
	index    uint64
	ids      int
	commands []int // changes of each command of the loop
	fail     error
	made     []string // volumes on n1
	more     chan struct{}
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, store: state.New(), now: time.Unix(1000, 0), more: make(chan struct{})}
	w.elect()
	for i := range nodes {
		w.put(state.Change{Node: &stack.Node{ID: fmt.Sprint("n", i), Memory: 1 << 30}})
	}
	return w
}

func (w *world) elect() {
	w.loop = New(Config{Store: w.store, Propose: w.propose, NewID: func() string { w.ids++; return fmt.Sprint("t", w.ids) }, Inventory: w})
}

// Inventory: volume "old" is on n1.
func (w *world) Inventory(node string) (images, volumes []string, version uint64) {
	if node == "n1" {
		volumes = append([]string{"shop_old"}, w.made...)
	}
	return nil, volumes, uint64(1 + len(w.made))
}

func (w *world) Changed() <-chan struct{} { return w.more }

// make makes a volume on n1.
func (w *world) make(name string) {
	w.made = append(w.made, name)
	close(w.more)
	w.more = make(chan struct{})
}

func (w *world) propose(_ context.Context, changes []state.Change) (uint64, error) {
	if w.fail != nil {
		return 0, w.fail
	}
	w.commands = append(w.commands, len(changes))
	w.put(changes...)
	return w.index, nil
}

func (w *world) put(changes ...state.Change) {
	w.t.Helper()
	data, err := state.Command{Time: w.now.UnixNano(), Changes: changes}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := state.Decode(data)
	w.index++
	if err == nil {
		err = w.store.Apply(w.index, c)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stack(name string, services ...stack.Service) {
	spec := stack.Stack{Name: name, Volumes: map[string]stack.Volume{
		"new": {Key: "new", Name: name + "_new", Labels: map[string]string{"a": "b"}}, "old": {Key: "old", Name: name + "_old"},
	}}
	changes := []state.Change{{Stack: &state.Stack{Name: name, Spec: spec}}}
	for _, s := range services {
		changes = append(changes, state.Change{Service: &state.ServiceChange{
			Service: state.Service{Stack: name, Name: s.Name, Spec: s, Desired: stack.DesiredRun}, NewVersion: true,
		}})
	}
	w.put(changes...)
}

// settle runs rounds until they store nothing more.
func (w *world) settle() {
	w.t.Helper()
	for range 100 {
		at := w.index
		next, err := w.loop.Round(context.Background(), w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.index == at && (next.IsZero() || next.After(w.now)) {
			return
		}
	}
	w.t.Fatal("rounds without end")
}

func (w *world) placed(stackName string) (n int) {
	for _, t := range w.store.Snapshot().Tasks(stackName) {
		if t.Node != "" {
			n++
		}
	}
	return n
}

func mounts(sources ...string) stack.ContainerSpec {
	var c stack.ContainerSpec
	for _, s := range sources {
		c.Mounts = append(c.Mounts, stack.Mount{Type: stack.MountVolume, Source: s, Target: "/" + s})
	}
	return c
}

func TestALargeStackIsStoredInSmallCommandsAndTheOthersTakeTurns(t *testing.T) {
	w := newWorld(t, 10)
	w.stack("a-large", stack.Service{Name: "web", Replicas: 3*roundChanges/2 + 1})
	w.stack("small", stack.Service{Name: "web", Replicas: 3})
	if _, err := w.loop.Round(context.Background(), w.now); err != nil {
		t.Fatal(err)
	}
	if n := w.placed("a-large"); n < commandChanges || n > roundChanges {
		t.Errorf("%d placed in the first round", n)
	}
	if _, err := w.loop.Round(context.Background(), w.now); err != nil {
		t.Fatal(err)
	}
	if n := w.placed("small"); n != 3 {
		t.Errorf("%d of the small stack placed after the second round", n)
	}
	for range 5 {
		w.now = w.now.Add(time.Second) // a large stack rests between looks
		w.settle()
	}
	if n := w.placed("a-large"); n != 3*roundChanges/2+1 {
		t.Errorf("%d placed in the end", n)
	}
	if most := slices.Max(w.commands); most > commandChanges {
		t.Errorf("a command of %d changes", most)
	}
}

func TestAVolumeIsBoundWithTheFirstPlacementAndStays(t *testing.T) {
	w := newWorld(t, 5)
	w.stack("shop", stack.Service{Name: "db", Replicas: 2, Container: mounts("new")}, stack.Service{Name: "log", Replicas: 1, Container: mounts("old")})
	w.settle()
	if w.commands[0] != 5 || len(w.commands) != 1 { // three tasks, two volumes
		t.Errorf("commands %v", w.commands)
	}
	snap := w.store.Snapshot()
	v := snap.Volume("shop_new")
	if v == nil || v.Key != "new" || v.Stack != "shop" || v.Labels["a"] != "b" || v.Created != w.now.UnixNano() {
		t.Fatalf("volume %+v", v)
	}
	for _, task := range snap.ServiceTasks("shop", "db") {
		if task.Node != v.Node {
			t.Errorf("db.%d is on %s, its volume on %s", task.Slot, task.Node, v.Node)
		}
	}
	if old := snap.Volume("shop_old"); old == nil || old.Node != "n1" || snap.ServiceTasks("shop", "log")[0].Node != "n1" {
		t.Errorf("a volume that n1 has already is bound to %+v", old)
	}
	w.elect() // who knows nothing but the state
	n := *snap.Node(v.Node)
	n.Availability = stack.Paused
	w.put(state.Change{Node: &n})
	w.stack("shop", stack.Service{Name: "db", Replicas: 3, Container: mounts("new")})
	w.settle()
	all := w.store.Snapshot().ServiceTasks("shop", "db")
	third := all[len(all)-1] // the others have successors that wait beside them
	if third.Node != "" || third.Status.Message == "" {
		t.Errorf("db.3 is on %s: %q", third.Node, third.Status.Message)
	}
	n.Availability = stack.Active
	w.put(state.Change{Node: &n})
	w.settle()
	if third := w.store.Snapshot().Task(third.ID); third == nil || third.Node != v.Node {
		t.Errorf("db.3 after its node takes tasks again: %+v", third)
	}
}

func TestAVolumeThatIsMadeLaterIsNotWaitedForLonger(t *testing.T) {
	w := newWorld(t, 3)
	w.put(state.Change{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Volumes: map[string]stack.Volume{
		"outside": {Key: "outside", Name: "outside", External: true},
	}}}}, state.Change{Service: &state.ServiceChange{NewVersion: true, Service: state.Service{
		Stack: "shop", Name: "db", Desired: stack.DesiredRun, Spec: stack.Service{Name: "db", Replicas: 1, Container: mounts("outside")},
	}}})
	w.settle()
	if n := w.placed("shop"); n != 0 {
		t.Fatal("placed without its volume")
	}
	w.now = w.now.Add(time.Millisecond)
	w.make("outside")
	next, err := w.loop.Round(context.Background(), w.now)
	if err != nil || next.After(w.now.Add(inventoryWanted)) || next.IsZero() {
		t.Fatalf("nodes are asked again at %v, now is %v: %v", next, w.now, err)
	}
	w.now = next
	w.settle()
	if task := w.store.Snapshot().Tasks("shop")[0]; task.Node != "n1" {
		t.Errorf("with the volume there: on %q, %s", task.Node, task.Status.Message)
	}
	if next, err := w.loop.Round(context.Background(), w.now); err != nil || !next.IsZero() {
		t.Errorf("with nothing to wait for, the next round is at %v: %v", next, err)
	}
}

func TestTasksThatShareANodeFindRoomTogether(t *testing.T) {
	w := newWorld(t, 3)
	w.put(state.Change{Node: &stack.Node{ID: "big", Memory: 4 << 30}})
	side := stack.Service{Name: "side", Replicas: 1, Container: stack.ContainerSpec{NetworkMode: "service:app"}}
	side.Container.Resources.ReservedMemory = 1 << 30
	app := stack.Service{Name: "app", Replicas: 1}
	app.Container.Resources.ReservedMemory = 1 << 30
	w.stack("shop", app, side)
	w.settle()
	for _, task := range w.store.Snapshot().Tasks("shop") {
		if task.Service == "app" && task.Node != "big" {
			t.Errorf("%s is on %s, where its mate finds no room", task.Service, task.Node)
		}
	}
}

func TestAFailedCommandCountsNothing(t *testing.T) {
	w := newWorld(t, 1)
	s := stack.Service{Name: "web", Replicas: 1}
	s.Container.Resources.ReservedMemory = 1 << 30 // all of the node
	w.stack("shop", s)
	w.fail = errors.New("no disk")
	for range 3 {
		if _, err := w.loop.Round(context.Background(), w.now); !errors.Is(err, w.fail) {
			t.Fatalf("round: %v", err)
		}
	}
	w.fail = nil
	w.settle()
	if n := w.placed("shop"); n != 1 {
		t.Errorf("%d placed: what was not stored takes room", n)
	}
}

func TestRoomThatBecomesFreeIsUsed(t *testing.T) {
	w := newWorld(t, 1)
	s := stack.Service{Name: "web", Replicas: 1}
	s.Container.Resources.ReservedMemory = 1 << 30
	w.stack("first", s)
	w.settle()
	w.stack("second", s)
	w.settle()
	if w.placed("second") != 0 {
		t.Fatal("two tasks fit into one node")
	}
	id := w.store.Snapshot().Tasks("first")[0].ID
	w.put(state.Change{Status: &state.Status{Task: id, Status: stack.TaskStatus{State: stack.TaskCompleted}}})
	w.now = w.now.Add(2 * time.Second)
	w.settle()
	if w.placed("second") != 1 {
		t.Errorf("what waited is not placed: %q", w.store.Snapshot().Tasks("second")[0].Status.Message)
	}
}

func TestWhatDoesNotConcernTasksWakesNobody(t *testing.T) {
	w := newWorld(t, 3)
	w.stack("shop", stack.Service{Name: "web", Replicas: 3}, stack.Service{Name: "agent", Mode: stack.Global})
	w.settle()
	before := w.loop.Stats()
	n := *w.store.Snapshot().Node("n1")
	n.Version, n.Message = "2", "called"
	w.put(state.Change{Node: &n})
	w.settle()
	if after := w.loop.Stats(); after.Looks != before.Looks {
		t.Errorf("%d looks after a node's call", after.Looks-before.Looks)
	}
	n.Labels = map[string]string{"zone": "a"}
	w.put(state.Change{Node: &n})
	w.settle()
	if after := w.loop.Stats(); after.Looks != before.Looks+1 {
		t.Errorf("%d looks after a new label", after.Looks-before.Looks)
	}
}

// TestRecordsOfServicesAreLetGo: an update changes its service many times, and a
// leader may lead for months.
func TestRecordsOfServicesAreLetGo(t *testing.T) {
	w := newWorld(t, 2)
	w.put(state.Change{Stack: &state.Stack{Name: "s", Spec: stack.Stack{Name: "s"}}})
	spec := stack.Service{Name: "web", Mode: stack.Global, Container: stack.ContainerSpec{Image: "web:1"}}
	for i := range 20 {
		w.put(state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: "web", Spec: spec, Hash: fmt.Sprint(i), Desired: stack.DesiredRun}, NewVersion: i == 0}})
		w.settle()
	}
	if n := len(w.loop.view.filters); n > 2 {
		t.Errorf("filters of %d records of one service are kept", n)
	}
	if n := w.placed("s"); n != 2 {
		t.Errorf("%d tasks are placed, want one on each node", n)
	}
}
