package node

import (
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// TestWhoEntersIsNotForgotten while the managers are told which containers a
// machine has: the list that has not got it comes first.
func TestWhoEntersIsNotForgotten(t *testing.T) {
	one, two := two(t)
	if _, err := one.node.CreateNetwork(t.Context(), stack.Network{Name: "front", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	two.stop()
	asked, goOn := make(chan struct{}), make(chan struct{})
	ask, release := sync.OnceFunc(func() { close(asked) }), sync.OnceFunc(func() { close(goOn) })
	defer release()
	two.mu.Lock()
	two.listed = func() { ask(); <-goOn }
	two.mu.Unlock()
	two.start()
	<-asked
	entered := make(chan error, 1)
	var got stack.Endpoint
	go func() {
		var err error
		got, err = two.node.EnterNetwork(t.Context(), stack.Endpoint{ID: "c1", Network: "front", Name: "first"})
		entered <- err
	}()
	select {
	case err := <-entered: // without the order it is in the network now, and the list is to come
		entered <- err
	case <-time.After(300 * time.Millisecond):
	}
	release()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	two.until("the list to be told", func() bool {
		e := two.node.now()
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.telling == nil
	})
	again, err := two.node.EnterNetwork(t.Context(), stack.Endpoint{ID: "c1", Network: "front", Name: "first"})
	if err != nil || again.IPv4 != got.IPv4 {
		t.Errorf("it had %s, asked again: %+v, %v", got.IPv4, again, err)
	}
	one.until("the container", func() bool { return one.endpoint(two, "c1", "front") == got.IPv4 })
}

// endpoint is the address that the managers have of another machine's container; "": none.
func (h *host) endpoint(of *host, id, network string) string {
	for _, e := range h.node.Manager().Directory(network, nil).Endpoints {
		if e.ID == id && e.Node == of.node.Self() {
			return e.IPv4
		}
	}
	return ""
}

// TestWhoVanishedEntersAgain, with its address: the managers have gone back to
// an older state. Who has left stays away.
func TestWhoVanishedEntersAgain(t *testing.T) {
	one, two := two(t)
	if _, err := one.node.CreateNetwork(t.Context(), stack.Network{Name: "front", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	had := map[string]string{}
	for id, h := range map[string]*host{"c1": one, "c2": two, "c3": two} {
		e, err := h.node.EnterNetwork(t.Context(), stack.Endpoint{ID: id, Network: "front", Name: id, Aliases: []string{"all"}})
		if err != nil {
			t.Fatal(err)
		}
		had[id] = e.IPv4
	}
	for _, h := range []*host{one, two} {
		h.until("all three", func() bool { return ids(h.node.Directory("front")) == "c1 c2 c3" })
	}
	if err := two.node.LeaveNetwork(t.Context(), "c3", "front"); err != nil {
		t.Fatal(err)
	}
	for id, h := range map[string]*host{"c1": one, "c2": two} {
		if err := one.node.Manager().LeaveNetwork(t.Context(), h.node.Self(), id, "front"); err != nil {
			t.Fatal(err)
		}
	}
	for id, h := range map[string]*host{"c1": one, "c2": two} {
		one.until(id+" with its address", func() bool { return one.endpoint(h, id, "front") == had[id] })
	}
	for _, h := range []*host{one, two} {
		h.until("both", func() bool { return ids(h.node.Directory("front")) == "c1 c2" })
	}
	if d := two.node.Directory("front"); len(d.Endpoints[1].Aliases) != 1 || d.Endpoints[1].Name != "c2" {
		t.Errorf("it came back as %+v", d.Endpoints[1])
	}
}
