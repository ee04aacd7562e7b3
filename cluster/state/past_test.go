package state

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func TestTheLastEndedTasksOfASlotAreKept(t *testing.T) {
	s, index := New(), uint64(0)
	apply := func(changes ...Change) {
		t.Helper()
		index++
		if err := s.Apply(index, Command{Time: int64(index), Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	apply(Change{Service: &ServiceChange{Service: Service{Stack: "shop", Name: "web"}, NewVersion: true}})
	end := func(n, slot int, pin string) {
		task := stack.Task{ID: fmt.Sprintf("t%d.%d%s", n, slot, pin), Stack: "shop", Service: "web", Slot: slot, Pin: pin, Node: "n1"}
		apply(Change{Create: &task})
		ended := task
		ended.End = &stack.TaskEnd{State: stack.TaskFailed, Time: int64(n)}
		apply(Change{Retire: &ended})
		apply(Change{Retire: &ended}) // of a task that is gone: nothing
	}
	for n := range 8 {
		end(n, 1, "")
		end(n, 1, "n2")
	}
	end(1, 2, "")
	ids := func() (out []string) {
		for _, task := range s.Snapshot().Past("shop", "web") {
			out = append(out, task.ID)
		}
		return out
	}
	want := "[t3.1 t4.1 t5.1 t6.1 t7.1 t3.1n2 t4.1n2 t5.1n2 t6.1n2 t7.1n2 t1.2]"
	if got := fmt.Sprint(ids()); got != want || len(s.Snapshot().Tasks("shop")) != 0 {
		t.Fatalf("kept %s, want %s", got, want)
	}
	var data bytes.Buffer
	if err := s.Snapshot().Persist(&data); err != nil {
		t.Fatal(err)
	}
	again := New()
	if err := again.Restore(&data); err != nil || len(again.Snapshot().Past("shop", "")) != 11 {
		t.Errorf("restored %d ended tasks: %v", len(again.Snapshot().Past("shop", "")), err)
	}
	apply(Change{Cluster: &Cluster{Settings: Settings{TaskHistory: 1}}})
	end(9, 1, "")
	apply(Change{Cluster: &Cluster{Settings: Settings{TaskHistory: -1}}})
	end(10, 2, "")
	if got := fmt.Sprint(ids()); got != "[t9.1 t3.1n2 t4.1n2 t5.1n2 t6.1n2 t7.1n2]" {
		t.Errorf("with other settings: %s", got)
	}
	apply(Change{Delete: &Key{TableService, ServiceKey("shop", "web")}})
	if len(ids()) != 0 {
		t.Errorf("the service is gone: %v", ids())
	}
}

func TestAnUpdateBeginsAndTurnsBack(t *testing.T) {
	s, index := New(), uint64(0)
	put := func(image string, replicas int, fresh bool) *Service {
		t.Helper()
		index++
		sv := Service{Stack: "shop", Name: "web", Hash: image, Spec: stack.Service{Name: "web", Replicas: replicas, Container: stack.ContainerSpec{Image: image}}}
		if err := s.Apply(index, Command{Time: int64(index), Changes: []Change{{Service: &ServiceChange{Service: sv, NewVersion: fresh}}}}); err != nil {
			t.Fatal(err)
		}
		return s.Snapshot().Service("shop", "web")
	}
	rollout := func(c UpdateChange) *Service {
		t.Helper()
		index++
		c.Stack, c.Name = "shop", "web"
		if err := s.Apply(index, Command{Changes: []Change{{Rollout: &c}}}); err != nil {
			t.Fatal(err)
		}
		return s.Snapshot().Service("shop", "web")
	}
	if sv := put("one", 2, true); sv.Update != nil {
		t.Errorf("the first version is an update: %+v", sv.Update)
	}
	put("one", 3, false)
	if sv := put("two", 3, true); sv.Update.State != stack.Updating || sv.Update.From != 1 || sv.Update.To != 3 || sv.Update.Started != 3 {
		t.Errorf("update %+v", sv.Update)
	}
	put("two", 4, false)
	rollout(UpdateChange{Version: 3, Update: &stack.UpdateStatus{State: stack.Updating, From: 1, To: 3, Failed: []string{"1"}}})
	if sv := put("three", 4, true); sv.Update.From != 1 || sv.Update.To != 6 {
		t.Errorf("an update that did not go well: %+v, want to go back to before it", sv.Update)
	}
	if sv := rollout(UpdateChange{Version: 3, Update: &stack.UpdateStatus{}}); sv.Update.State != stack.Updating {
		t.Errorf("a decision about an older version was taken: %+v", sv.Update)
	}
	sv := rollout(UpdateChange{Version: 6, Back: 1, Update: &stack.UpdateStatus{State: stack.RollbackStarted, From: 1, To: 6}})
	last := sv.History[len(sv.History)-1]
	if sv.Version != 1 || sv.Hash != "one" || sv.Spec.Container.Image != "one" || sv.Spec.Replicas != 4 || last.Version != 1 || len(sv.History) != 3 {
		t.Errorf("went back to %+v", sv)
	}
	if last.Spec.Replicas != 3 {
		t.Errorf("history has %d replicas, want those that the version had last", last.Spec.Replicas)
	}
	sv = rollout(UpdateChange{Version: 1, Update: &stack.UpdateStatus{State: stack.RollbackCompleted, From: 1, To: 6}})
	if sv.Version != 1 || sv.Hash != "one" || sv.Update.State != stack.RollbackCompleted {
		t.Errorf("the end of a rollback: %+v, want only its state to change", sv)
	}
	if sv = put("four", 4, true); sv.Update.From != 1 {
		t.Errorf("after a rollback: %+v", sv.Update)
	}
}
