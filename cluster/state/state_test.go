package state

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

func persist(t interface{ Fatal(...any) }, s *Store) []byte {
	var b bytes.Buffer
	if err := s.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// commands draws a history over few names, so that records meet.
func commands(t *rapid.T) []Command {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	labels := rapid.MapOfN(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.String(), 0, 3)
	change := rapid.Custom(func(t *rapid.T) Change {
		stackName, service, id := name.Draw(t, "stack"), name.Draw(t, "service"), name.Draw(t, "id")
		switch rapid.IntRange(0, 12).Draw(t, "kind") {
		case 0:
			return Change{Stack: &Stack{Name: stackName, Created: 5, Spec: stack.Stack{Name: stackName, Files: []string{"f"}}}}
		case 1, 2:
			spec := stack.Service{Name: service, Replicas: 2, Labels: labels.Draw(t, "labels")}
			spec.Container.Command = rapid.SampledFrom([][]string{nil, {}, {"x"}}).Draw(t, "command")
			return Change{Service: &ServiceChange{Service: Service{Stack: stackName, Name: service, Spec: spec, Hash: id}, NewVersion: rapid.Bool().Draw(t, "new")}}
		case 3:
			return Change{Create: &stack.Task{ID: id + fmt.Sprint(rapid.IntRange(0, 1<<30).Draw(t, "n")), Stack: stackName, Service: service, Node: "n", Version: 3}}
		case 4:
			return Change{Update: &stack.Task{ID: id, Stack: stackName, Service: service, Node: rapid.SampledFrom([]string{"", "n"}).Draw(t, "node")}}
		case 5:
			return Change{Status: &Status{Task: id, Status: stack.TaskStatus{State: stack.TaskRunning, Time: time.Unix(9, 8).UTC(), Anonymous: labels.Draw(t, "volumes")}}}
		case 6:
			return Change{Network: &Network{Network: stack.Network{Name: id, Stack: stackName, ID: id, Labels: labels.Draw(t, "labels")}}}
		case 7:
			return Change{Secret: &Secret{Name: id, Stack: stackName, Spec: stack.Secret{Name: id, Data: []byte(id)}}}
		case 8:
			return Change{Node: &stack.Node{ID: id, Labels: labels.Draw(t, "labels")}}
		case 9:
			return Change{Config: &Config{Name: id, Stack: stackName}}
		case 10:
			return Change{Left: &LeftChange{Stack: stackName, Name: service, Left: stack.Left{"n": {id}}}}
		case 11:
			return Change{Volume: &Volume{Name: id, Stack: stackName, Node: service, Labels: labels.Draw(t, "labels")}}
		}
		table := rapid.SampledFrom([]Table{TableStack, TableService, TableTask, TableNetwork, TableVolume, TableSecret, TableConfig, TableNode}).Draw(t, "table")
		if table == TableService {
			id = ServiceKey(stackName, service)
		}
		return Change{Delete: &Key{Table: table, Name: id}}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Command {
		return Command{Time: rapid.Int64().Draw(t, "time"), Changes: rapid.SliceOfN(change, 1, 4).Draw(t, "changes")}
	}), 1, 30).Draw(t, "commands")
}

func feed(t *rapid.T, s *Store, from int, cmds [][]byte) {
	for i, data := range cmds {
		c, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Apply(uint64(from+i+1), c) // refused by all stores alike
	}
}

func encode(t *rapid.T, cmds []Command) [][]byte {
	var out [][]byte
	for _, c := range cmds {
		data, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Encode()
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("two encodings differ: %v", err)
		}
		out = append(out, data)
	}
	return out
}

func TestSnapshotRestoreSnapshotIsByteEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cmds := encode(t, commands(t))
		a, b := New(), New()
		feed(t, a, 0, cmds)
		feed(t, b, 0, cmds)
		first := persist(t, a)
		if !bytes.Equal(first, persist(t, b)) {
			t.Fatal("two stores fed the same commands differ")
		}
		c := New()
		if err := c.Restore(bytes.NewReader(first)); err != nil {
			t.Fatal(err)
		}
		if got := persist(t, c); !bytes.Equal(first, got) {
			t.Fatalf("restored state differs:\n%s\n%s", first, got)
		}
		more := encode(t, commands(t))
		feed(t, a, len(cmds), more)
		feed(t, c, len(cmds), more)
		if !bytes.Equal(persist(t, a), persist(t, c)) {
			t.Fatal("a restored store goes another way")
		}
	})
}

func TestARefusedCommandChangesNothing(t *testing.T) {
	s := New()
	apply(t, s, 1, Change{Create: &stack.Task{ID: "a"}})
	want := persist(t, s)
	if err := s.Apply(2, Command{Changes: []Change{{Node: &stack.Node{ID: "n"}}, {Create: &stack.Task{ID: "a"}}}}); err == nil {
		t.Fatal("a second task of the same ID was taken")
	}
	if !bytes.Equal(want, persist(t, s)) {
		t.Error("half a command was applied")
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	s := New()
	for i := range 20 {
		apply(t, s, uint64(i+1), Change{Create: &stack.Task{ID: fmt.Sprint(i)}})
	}
	whole := persist(t, s)
	for cut := 0; cut < len(whole)-1; cut += 37 {
		if err := New().Restore(bytes.NewReader(whole[:cut])); err == nil {
			t.Errorf("the first %d of %d bytes were taken", cut, len(whole))
		}
	}
	if err := New().Restore(strings.NewReader(strings.Replace(string(whole), `"t":"task"`, `"t":"what"`, 1))); err == nil {
		t.Error("an unknown table was taken")
	}
	if !bytes.Equal(whole, persist(t, s)) {
		t.Error("state changed")
	}
}

func TestChangedMissesNothing(t *testing.T) {
	s := New()
	ch := s.Changed()
	apply(t, s, 1, Change{Stack: &Stack{Name: "s"}}, Change{Create: &stack.Task{ID: "a", Stack: "s", Node: "n"}})
	select {
	case <-ch:
	default:
		t.Fatal("not told of a change")
	}
	old := s.Snapshot()
	ch = s.Changed()
	st := stack.TaskStatus{State: stack.TaskRunning}
	apply(t, s, 2, Change{Status: &Status{Task: "a", Status: st}})
	<-ch
	if old.Task("a").Status.State != stack.TaskNew || s.Snapshot().Task("a").Status.State != stack.TaskRunning {
		t.Error("a snapshot changed under its reader, or the store did not")
	}
	ch = s.Changed()
	apply(t, s, 3, Change{Status: &Status{Task: "a", Status: st}})
	select {
	case <-ch:
		t.Error("told of a change that is none")
	default:
	}
	if got := s.Snapshot(); got.Index() != 3 || got.Stack("s").Index != 2 {
		t.Errorf("index %d, stack %+v", got.Index(), got.Stack("s"))
	}
}

func TestStatusBelongsToTheAgentOnceThereIsANode(t *testing.T) {
	s := New()
	apply(t, s, 1, Change{Create: &stack.Task{ID: "a", Stack: "s"}})
	apply(t, s, 2, Change{Status: &Status{Task: "a", Status: stack.TaskStatus{State: stack.TaskRunning}}})
	if got := s.Snapshot().Task("a").Status.State; got != stack.TaskNew {
		t.Errorf("an agent wrote the status of a task without a node: %d", got)
	}
	apply(t, s, 3, Change{Update: &stack.Task{ID: "a", Node: "n", Status: stack.TaskStatus{State: stack.TaskAssigned}}})
	apply(t, s, 4, Change{Status: &Status{Task: "a", Status: stack.TaskStatus{State: stack.TaskRunning}}})
	apply(t, s, 5, Change{Update: &stack.Task{ID: "a", Node: "n", Desired: stack.DesiredStop, Status: stack.TaskStatus{State: stack.TaskAssigned}}})
	if got := s.Snapshot().Task("a"); got.Status.State != stack.TaskRunning || got.Desired != stack.DesiredStop {
		t.Errorf("a manager wrote over the agent's status: %+v", got)
	}
	apply(t, s, 6, Change{Update: &stack.Task{ID: "gone"}})
	if s.Snapshot().Task("gone") != nil {
		t.Error("an update made a task")
	}
}

func TestVersionsInUseAreKept(t *testing.T) {
	s := New()
	put := func(index uint64, fresh bool) {
		apply(t, s, index, Change{Service: &ServiceChange{Service: Service{Stack: "s", Name: "web", Spec: stack.Service{Replicas: int(index)}, Hash: fmt.Sprint(index)}, NewVersion: fresh}})
	}
	put(1, true)
	apply(t, s, 2, Change{Create: &stack.Task{ID: "a", Stack: "s", Service: "web", Version: 1}})
	for i := uint64(3); i < 20; i++ {
		put(i, true)
	}
	put(20, false)
	sv := s.Snapshot().Service("s", "web")
	if len(sv.History) != KeepVersions+1 || sv.History[0].Version != 1 || sv.Version != 19 || sv.Hash != "19" {
		t.Errorf("history %+v, version %d, hash %s", sv.History, sv.Version, sv.Hash)
	}
	if spec, hash := sv.SpecOf(1); spec.Replicas != 1 || hash != "1" {
		t.Errorf("version 1: %+v %s", spec, hash)
	}
	if spec, _ := sv.SpecOf(19); spec.Replicas != 20 {
		t.Errorf("current spec: %+v", spec)
	}
	if spec, _ := sv.SpecOf(4); spec != nil {
		t.Errorf("version 4 was kept")
	}
}

func TestWhatAServiceLeftStaysWhenItIsAppliedAnew(t *testing.T) {
	s := New()
	service := Service{Stack: "shop", Name: "db"}
	apply(t, s, 1, Change{Left: &LeftChange{Stack: "shop", Name: "db", Left: stack.Left{"n": {"v0"}}}}, // of nobody
		Change{Service: &ServiceChange{Service: service, NewVersion: true}})
	if left := s.Snapshot().Service("shop", "db").Left; len(left) != 0 {
		t.Errorf("a new service has left %v behind", left)
	}
	apply(t, s, 2, Change{Left: &LeftChange{Stack: "shop", Name: "db", Left: stack.Left{"n": {"v1"}}}})
	apply(t, s, 3, Change{Service: &ServiceChange{Service: service, NewVersion: true}})
	if sv := s.Snapshot().Service("shop", "db"); sv.Version != 3 || len(sv.Left["n"]) != 1 || sv.Left["n"][0] != "v1" {
		t.Errorf("version %d has left %v behind, want v1", sv.Version, sv.Left)
	}
}

func apply(t *testing.T, s *Store, index uint64, changes ...Change) {
	t.Helper()
	if err := s.Apply(index, Command{Time: int64(index), Changes: changes}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkStatus shows that a change costs the same in a small and a large state.
func BenchmarkStatus(b *testing.B) {
	for _, size := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := New()
			for i := 0; i < size; i += 100 {
				var c Command
				for j := i; j < i+100; j++ {
					c.Changes = append(c.Changes, Change{Create: &stack.Task{ID: fmt.Sprint(j), Stack: fmt.Sprint("s", j/100), Service: "web", Slot: j, Node: "n"}})
				}
				if err := s.Apply(uint64(i+1), c); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				st := stack.TaskStatus{State: stack.TaskRunning, ExitCode: i}
				if err := s.Apply(uint64(size+i), Command{Changes: []Change{{Status: &Status{Task: fmt.Sprint(i % size), Status: st}}}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCountReadsWhatPersistWrote(t *testing.T) {
	s := New()
	for i, n := range []string{"a", "b"} {
		if err := s.Apply(uint64(i+1), Command{Changes: []Change{{Node: &stack.Node{ID: n}}}}); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := s.Snapshot().Persist(&out); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	n, err := Count(bytes.NewReader(data))
	if err != nil || n[TableNode] != 2 || n[TableTask] != 0 {
		t.Errorf("%v, %v", n, err)
	}
	if n, err := Count(bytes.NewReader(data[:len(data)-3])); err == nil {
		t.Errorf("cut off: %v", n)
	}
}
