package daemon

import (
	"context"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// tellNetworks publishes the creation and the removal of networks. They are
// replicated state, which every node sees change, whoever changed it: one
// look at each change is the only place where all of them pass.
func (n *node) tellNetworks(ctx context.Context) error {
	changed := n.cluster.Changed()
	have := byID(n.cluster.Networks())
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		changed = n.cluster.Changed()
		now := byID(n.cluster.Networks())
		for _, e := range networkEvents(have, now) {
			n.bus.Publish(e)
		}
		have = now
	}
}

func byID(list []stack.Network) map[string]stack.Network {
	out := make(map[string]stack.Network, len(list))
	for _, n := range list {
		out[n.ID] = n
	}
	return out
}

// networkEvents are what happened between two looks.
func networkEvents(have, now map[string]stack.Network) []runtime.Event {
	var out []runtime.Event
	for id, n := range have {
		if _, ok := now[id]; !ok {
			out = append(out, networkEvent("destroy", n))
		}
	}
	for id, n := range now {
		if _, ok := have[id]; !ok {
			out = append(out, networkEvent("create", n))
		}
	}
	return out
}

func networkEvent(action string, n stack.Network) runtime.Event {
	driver := n.Driver
	if driver == "" {
		driver = "bridge"
	}
	return runtime.Event{Type: "network", Action: action, ID: n.ID, Attrs: map[string]string{"name": n.Name, "type": driver}}
}
