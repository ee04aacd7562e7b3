package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// running is a Manager that follows its source.
func running(t *testing.T, k *kernel, src *source) *overlaynet.Manager {
	m := k.manager(t, src)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	return m
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { // what is polled has no signal
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

// A container without a task gets its address from the managers, and they
// learn when it leaves and what it is called.
func TestPlainContainers(t *testing.T) {
	src, k := newSource(span("front", 1), span("back", 2)), newKernel()
	m := running(t, k, src)
	c, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "p", Name: "p", DNSNames: []string{"p", "pp"}, Attachments: on("front")})
	must(t, err)
	if got := c.Endpoints[0].IPv4; got != "10.70.1.10/24" {
		t.Errorf("address %s", got)
	}
	_, err = m.ConnectNetwork(t.Context(), "p", stack.Attachment{Network: "back", IPv4: "10.70.2.99"})
	must(t, err)
	want := []string{"[p back]10.70.2.99[pp]", "[p front]10.70.1.10[pp]"}
	if got := src.inside(); !slices.Equal(got, want) {
		t.Errorf("inside: %v", got)
	}
	if got := m.Plain(); !slices.Equal(got, []string{"p"}) {
		t.Errorf("plain: %v", got)
	}
	_, err = m.Rename("p", []string{"q"})
	must(t, err)
	eventually(t, "the new name", func() bool { return strings.Contains(fmt.Sprint(src.inside()), "[q]") })
	src.refusing("no manager answers")
	_, err = m.DisconnectNetwork(t.Context(), "p", "back")
	must(t, err)
	eventually(t, "it is said", func() bool { return strings.Contains(fmt.Sprint(m.Problems()), "no manager answers") })
	src.refusing("")
	eventually(t, "it has left one network", func() bool { return len(src.inside()) == 1 })
	must(t, m.Disconnect(t.Context(), "p"))
	eventually(t, "it has left", func() bool { return len(src.inside()) == 0 && len(m.Problems()) == 0 })

	src.losing(errors.New("the answer was lost"))
	_, err = m.Connect(t.Context(), overlaynet.Sandbox{ID: "s", Attachments: on("front")})
	src.losing(nil)
	if err == nil || !strings.Contains(err.Error(), "answer was lost") {
		t.Errorf("an answer was lost: %v", err)
	}
	eventually(t, "who does not know that it is in the network has left", func() bool { return len(src.inside()) == 0 })

	src.refusing("no address is free")
	if _, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "r", Attachments: on("front")}); err == nil || !strings.Contains(err.Error(), "no address is free") {
		t.Errorf("refused: %v", err)
	}
	src.refusing("")
	must(t, m.Restore(t.Context(), []overlaynet.Restored{{Sandbox: overlaynet.Sandbox{ID: "p", Name: "p", Attachments: on("front")}, Connected: *c}}))
	if now, _ := m.Connected("p"); now.Endpoints[0].IPv4 != "10.70.1.10/24" {
		t.Errorf("restored: %+v", now.Endpoints)
	}
	eventually(t, "the managers know it again", func() bool { return len(src.inside()) == 1 })
}

// Who is in a network already asks for no second address in it.
func TestConnectingTwiceAsksNobody(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	m := running(t, k, src)
	_, err := m.Connect(t.Context(), task("t", "10.70.1.21"))
	must(t, err)
	_, err = m.Connect(t.Context(), overlaynet.Sandbox{ID: "p", Name: "p", Attachments: on("front")})
	must(t, err)
	before := src.inside()
	src.refusing("asked")
	for _, id := range []string{"t", "p"} {
		if _, err := m.ConnectNetwork(t.Context(), id, stack.Attachment{Network: "front", IPv4: "10.70.1.99"}); !errors.Is(err, runtime.ErrConflict) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if got := src.inside(); !slices.Equal(got, before) {
		t.Errorf("inside: %v, want %v", got, before)
	}
}

// The managers are told of who has left a network that this node does not know
// (any more): what they do not hear they would wait for.
func TestLeavingAnUnknownNetworkIsTold(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	m := running(t, k, src)
	_, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "p", Name: "p", Attachments: on("front")})
	must(t, err)
	src.remove("front")
	must(t, m.Disconnect(t.Context(), "p"))
	eventually(t, "it has left", func() bool { return len(src.inside()) == 0 })
}

// An address that the managers have given to the next one while the last one
// is not quite gone is waited for.
func TestGivenAddressIsWaitedFor(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	m := running(t, k, src)
	_, err := m.Connect(t.Context(), task("old", "10.70.1.21"))
	must(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := m.Connect(t.Context(), task("new", "10.70.1.21"))
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("given twice: %v", err)
	case <-time.After(30 * time.Millisecond): // nothing tells that it waits
	}
	must(t, m.Disconnect(t.Context(), "old"))
	must(t, <-got)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := m.Connect(ctx, task("third", "10.70.1.21")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "in use by new") {
		t.Errorf("third: %v", err)
	}
}

// One whose end could not be brought about is ended then.
func TestGivenAddressOfAFailedEnd(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	m := k.manager(t, src)
	_, err := m.Connect(t.Context(), task("old", "10.70.1.21"))
	must(t, err)
	k.failing("RemoveSandbox", errors.New("busy"))
	if err := m.Disconnect(t.Context(), "old"); err == nil {
		t.Fatal("no error")
	}
	k.failing("RemoveSandbox", nil)
	_, err = m.Connect(t.Context(), task("new", "10.70.1.21"))
	must(t, err)
}
