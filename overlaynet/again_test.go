package overlaynet_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
)

// What could not be removed with its network is removed by a later look.
func TestWhatIsLeftOfANetworkGoesLater(t *testing.T) {
	for _, call := range []string{"RemoveSegment", "Apply"} {
		src, k := newSource(span("front", 1)), newKernel()
		m := k.manager(t, src)
		_, err := m.Connect(t.Context(), task("c1", "10.70.1.21"))
		must(t, err)
		must(t, m.Disconnect(t.Context(), "c1"))
		src.remove("front")
		k.failing(call, errors.New("busy"))
		if err := m.Round(t.Context()); err == nil {
			t.Errorf("%s: no error", call)
		}
		k.failing(call, nil)
		must(t, m.Round(t.Context()))
		if len(k.segments)+len(k.picture.ruled) != 0 {
			t.Errorf("%s: left: %v, %v", call, k.segments, k.picture.ruled)
		}
	}
}

// A network that was begun and not finished goes too.
func TestHalfANetworkGoesWithIt(t *testing.T) {
	for _, call := range []string{"SetZone", "Apply"} {
		src, k := newSource(span("front", 1)), newKernel()
		m := k.manager(t, src)
		k.failing(call, errors.New("no"))
		if _, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "c1", Attachments: task("c1", "10.70.1.21").Attachments}); err == nil {
			t.Errorf("%s: no error", call)
		}
		k.failing(call, nil)
		src.remove("front")
		must(t, m.Round(t.Context()))
		if len(k.segments) != 0 {
			t.Errorf("%s: left: %v", call, k.segments)
		}
	}
}

// A start that the packet filter, or a bridge, did not take is made good by the
// first look: else the network's isolation would be missing until the next start.
func TestAStartThatFailedIsMadeGood(t *testing.T) {
	for _, call := range []string{"Apply", "SetSegment", "SetZone"} {
		src, k := newSource(span("front", 1)), newKernel()
		before := k.manager(t, src)
		c, err := before.Connect(t.Context(), task("c1", "10.70.1.21"))
		must(t, err)
		k.picture.rules = newPicture().rules
		m := k.manager(t, src)
		k.failing(call, errors.New("no"))
		if err := m.Restore(t.Context(), []overlaynet.Restored{{Sandbox: task("c1", "10.70.1.21"), Connected: *c, Ready: true}}); err == nil {
			t.Errorf("%s: no error", call)
		}
		k.failing(call, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		k.until(t, "the rules know the network after "+call, func() bool { _, ok := k.picture.ruled["id-front"]; return ok })
		cancel()
		<-ended
	}
}

// Who comes into a network that was idle finds all that is known of it, also
// while no manager says anything.
func TestAnIdleNetworkIsWholeAtOnce(t *testing.T) {
	_, k, m := shop(t)
	must(t, m.Disconnect(t.Context(), "c1"))
	must(t, m.Round(t.Context()))
	wantShow(t, k, "nobody is in it", "!remotes", "!virtual {")
	_, err := m.Connect(t.Context(), task("c2", "10.70.1.21"))
	must(t, err)
	wantShow(t, k, "somebody is in it again", "remotes id-front: [{Addrs:[10.70.1.22]", "Addr:10.71.1.1}: {Backends:[{Addr:10.70.1.22", "host [id-front t2]")
}
