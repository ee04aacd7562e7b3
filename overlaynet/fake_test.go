package overlaynet_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
)

// kernel is all drivers of a Manager without a kernel: it keeps what was made
// and counts what was asked.
type kernel struct {
	mu        sync.Mutex
	sandboxes map[string][]overlaynet.Plug // guarded by mu
	segments  map[string]bool              // guarded by mu: by name
	fronts    map[overlaynet.Frontend]int  // guarded by mu: number of backends
	asked     map[string]int               // guarded by mu: by call
	fail      map[string]error             // guarded by mu: by call
	changed   chan struct{}                // guarded by mu: closed and replaced at every call
	damage    func()                       // guarded by mu: nil until Run
}

func newKernel() *kernel {
	return &kernel{
		sandboxes: map[string][]overlaynet.Plug{}, segments: map[string]bool{}, fronts: map[overlaynet.Frontend]int{},
		asked: map[string]int{}, fail: map[string]error{}, changed: make(chan struct{}),
	}
}

// manager returns a Manager on k, which is k's alone.
func (k *kernel) manager(t testing.TB, src *source) *overlaynet.Manager {
	return overlaynet.New(overlaynet.Options{RunDir: t.TempDir(), Source: src, Links: fakeLinks{k}, Names: fakeNames{}, Rules: fakeRules{k}, Ports: fakePorts{}})
}

// call counts a call and does f unless the call is to fail.
func (k *kernel) call(name string, f func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[name]++
	close(k.changed)
	k.changed = make(chan struct{})
	if err := k.fail[name]; err != nil {
		return err
	}
	if f != nil {
		f()
	}
	return nil
}

func (k *kernel) count(call string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked[call]
}

// failing lets a call fail until it is told nil.
func (k *kernel) failing(call string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[call] = err
}

// until waits for a condition on k.
func (k *kernel) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		k.mu.Lock()
		good, changed := ok(), k.changed
		asked := maps.Clone(k.asked)
		k.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited in vain: %s; calls: %v", what, asked)
		}
	}
}

type fakeLinks struct{ *kernel }

func (k fakeLinks) SetSegment(_ context.Context, s overlaynet.Segment) error {
	return k.call("SetSegment", func() { k.segments[s.Name] = true })
}

func (k fakeLinks) RemoveSegment(_ context.Context, s overlaynet.Segment) error {
	return k.call("RemoveSegment", func() { delete(k.segments, s.Name) })
}

func (k fakeLinks) SetSandbox(_ context.Context, id string, plugs []overlaynet.Plug) (string, error) {
	return "/ns/" + id, k.call("SetSandbox", func() { k.sandboxes[id] = plugs })
}

func (k fakeLinks) RemoveSandbox(_ context.Context, id string, _ []overlaynet.Plug) error {
	return k.call("RemoveSandbox", func() { delete(k.sandboxes, id) })
}

func (k fakeLinks) Unplug(_ context.Context, id string, p overlaynet.Plug) error {
	return k.call("Unplug", func() {
		k.sandboxes[id] = slices.DeleteFunc(slices.Clone(k.sandboxes[id]), func(x overlaynet.Plug) bool { return x.Host == p.Host })
	})
}

func (k fakeLinks) Reroute(context.Context, string, []overlaynet.Plug) error {
	return k.call("Reroute", nil)
}

func (k fakeLinks) Sweep(context.Context, []overlaynet.Segment, map[string][]overlaynet.Plug) error {
	return k.call("Sweep", nil)
}

func (k fakeLinks) Forget(context.Context, overlaynet.Flows) error { return k.call("Forget", nil) }
func (fakeLinks) Avoid() ([]netip.Prefix, error)                   { return nil, nil }
func (fakeLinks) UplinkMTU() int                                   { return 0 }
func (fakeLinks) BridgeFilter() bool                               { return true }

func (k fakeLinks) Run(ctx context.Context, wake func()) error {
	k.mu.Lock()
	k.damage = wake
	k.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

type fakeRules struct{ *kernel }

func (k fakeRules) Apply(_ context.Context, c overlaynet.Change) error {
	return k.call("Apply", func() {
		for f, to := range c.Frontends {
			if k.fronts[f] = len(to); len(to) == 0 {
				delete(k.fronts, f)
			}
		}
	})
}

func (k fakeRules) Check(context.Context) (bool, error) { return false, k.call("Check", nil) }
func (k fakeRules) Clear(context.Context) error         { return k.call("Clear", nil) }
func (fakeRules) Warnings() []string                    { return nil }
func (fakeRules) Run(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

type fakeNames struct{}

func (fakeNames) SetZone(overlaynet.Zone) (map[netip.Addr]uint16, error) { return nil, nil }
func (fakeNames) RemoveZone(string)                                      {}
func (fakeNames) SetHost(overlaynet.Host)                                {}
func (fakeNames) RemoveHost(string, string)                              {}
func (fakeNames) Close() error                                           { return nil }

type fakePorts struct{}

func (fakePorts) Reserve(overlaynet.Frontend) (overlaynet.Reservation, error) { return fakeHeld{}, nil }
func (fakePorts) Ephemeral() (first, last uint16)                             { return 49153, 65535 }

type fakeHeld struct{}

func (fakeHeld) Close() error                 { return nil }
func (fakeHeld) Forward([]overlaynet.Backend) {}

func (k fakeLinks) SetRemotes(context.Context, overlaynet.Segment, []overlaynet.Remote) error {
	return k.call("SetRemotes", nil)
}

func (k fakeLinks) SetMesh(context.Context, *overlaynet.Mesh) error { return k.call("SetMesh", nil) }

func (k fakeLinks) Reset(context.Context, []string, []netip.Addr) error {
	return k.call("Reset", nil)
}

func (fakeNames) SetService(overlaynet.Service) {}
func (fakeNames) RemoveService(string, string)  {}
