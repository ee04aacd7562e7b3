package node

import (
	"testing"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/stack"
)

// A manager that has just joined and has no state yet takes it from those that
// its papers name, not from whoever has had a manager's certificate once.
func TestAnEmptyManagerTakesItsStateFromKnownOnes(t *testing.T) {
	e := &epoch{cluster: "c", node: "new", member: &member{Role: stack.RoleManager, Managers: []contact{{ID: "m1"}, {ID: "m2"}}}}
	for _, c := range []struct {
		peer  identity.Peer
		proto string
		ok    bool
	}{
		{identity.Peer{Node: "m1", Cluster: "c", Role: stack.RoleManager}, port.ProtoRaft, true},
		{identity.Peer{Node: "m1", Cluster: "c", Role: stack.RoleWorker}, port.ProtoRaft, false},
		{identity.Peer{Node: "demoted", Cluster: "c", Role: stack.RoleManager}, port.ProtoRaft, false},
		{identity.Peer{Node: "demoted", Cluster: "c", Role: stack.RoleManager}, port.ProtoHTTP, true},
		{identity.Peer{Node: "m1", Cluster: "other", Role: stack.RoleManager}, port.ProtoHTTP, false},
	} {
		if err := e.authorize(c.peer, c.proto); (err == nil) != c.ok {
			t.Errorf("%+v for %s: %v", c.peer, c.proto, err)
		}
	}
}
