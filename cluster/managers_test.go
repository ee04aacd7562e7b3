package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// The eighth manager is refused, by token and by promotion, and the refusal
// says what to do; nothing of it stays in the state.
func TestThereAreSevenManagersAtMost(t *testing.T) {
	m := openManager(t)
	admit := func(i int, role stack.Role) (string, error) {
		n := machine()
		n.Hostname, n.Addr = fmt.Sprint("h", i), fmt.Sprintf("10.0.0.%d:2377", i)
		a := admission(t, m, n)
		if role == stack.RoleManager {
			s, err := m.Swarm(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			a.Token = s.ManagerToken
		}
		p, err := m.Admit(t.Context(), a)
		return p.Node, err
	}
	for i := 2; i <= MaxManagers; i++ {
		if _, err := admit(i, stack.RoleManager); err != nil {
			t.Fatal(err)
		}
	}
	worker, err := admit(8, stack.RoleWorker)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, runtime.ErrInvalid) || !strings.Contains(err.Error(), "there are 7 managers already") || !strings.Contains(err.Error(), "demote another") {
			t.Errorf("%s: %v", what, err)
		}
	}
	before := m.Index()
	_, err = admit(9, stack.RoleManager)
	refused("join", err)
	spec := NodeSpec{Role: stack.RoleManager, Availability: stack.Active}
	refused("promote", m.UpdateNode(t.Context(), worker, 0, spec))
	if m.Index() != before {
		t.Error("the state has changed")
	}
	if n := m.store.Snapshot().Node(worker); n.Role != stack.RoleWorker {
		t.Errorf("%+v", n)
	}
}
