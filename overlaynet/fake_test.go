package overlaynet_test

import (
	"context"
	"fmt"
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
	picture   picture                      // guarded by mu
	taken     map[uint16]bool              // guarded by mu: host ports that another process has
	asked     map[string]int               // guarded by mu: by call
	fail      map[string]error             // guarded by mu: by call
	ended     []string                     // guarded by mu: whose connections, to where
	changed   chan struct{}                // guarded by mu: closed and replaced at every call
	damage    func()                       // guarded by mu: nil until Run
	unbridged bool                         // the kernel lacks br_netfilter
	answers   map[netip.AddrPort]bool      // machines that answer
}

func newKernel() *kernel {
	return &kernel{
		sandboxes: map[string][]overlaynet.Plug{}, segments: map[string]bool{}, fronts: map[overlaynet.Frontend]int{}, picture: newPicture(),
		taken: map[uint16]bool{}, asked: map[string]int{}, fail: map[string]error{}, changed: make(chan struct{}),
	}
}

// manager returns a Manager on k, which is k's alone.
func (k *kernel) manager(t testing.TB, src overlaynet.Source) *overlaynet.Manager {
	return overlaynet.New(overlaynet.Options{RunDir: "/run/dhow", Source: src, Links: fakeLinks{k}, Names: fakeNames{k}, Rules: fakeRules{k}, Ports: fakePorts{k}})
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

// counts returns what was asked since the last time.
func (k *kernel) counts() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.asked
	k.asked = map[string]int{}
	return out
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
	return k.call("SetSegment", func() { k.segments[s.Name], k.picture.segments[s.ID] = true, s })
}

func (k fakeLinks) RemoveSegment(_ context.Context, s overlaynet.Segment) error {
	return k.call("RemoveSegment", func() {
		delete(k.segments, s.Name)
		delete(k.picture.segments, s.ID)
		delete(k.picture.remotes, s.ID)
	})
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

func (k fakeLinks) SetRemotes(_ context.Context, s overlaynet.Segment, list []overlaynet.Remote) error {
	return k.call("SetRemotes", func() {
		if delete(k.picture.remotes, s.ID); len(list) > 0 {
			k.picture.remotes[s.ID] = list
		}
	})
}

func (k fakeLinks) SetMesh(_ context.Context, m *overlaynet.Mesh) error {
	return k.call("SetMesh", func() { k.picture.mesh = m })
}

func (k fakeLinks) Reset(_ context.Context, sandboxes []string, addrs []netip.Addr) error {
	return k.call("Reset", func() { k.ended = append(k.ended, fmt.Sprint(sandboxes, addrs)) })
}

func (k fakeLinks) Forget(_ context.Context, f overlaynet.Flows) error {
	return k.call("Forget", func() { k.ended = append(k.ended, fmt.Sprint(f.Addrs)) })
}

func (k fakeLinks) BridgeFilter() bool           { return !k.unbridged }
func (fakeLinks) Avoid() ([]netip.Prefix, error) { return nil, nil }
func (fakeLinks) UplinkMTU() int                 { return 0 }

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
		k.picture.apply(c)
		k.fronts = map[overlaynet.Frontend]int{}
		for f, to := range k.picture.fronts {
			k.fronts[f] = len(to)
		}
	})
}

func (k fakeRules) Clear(context.Context) error {
	return k.call("Clear", func() { k.picture.rules, k.fronts = newPicture().rules, map[overlaynet.Frontend]int{} })
}

func (k fakeRules) Check(context.Context) (bool, error) { return false, k.call("Check", nil) }
func (fakeRules) Warnings() []string                    { return nil }
func (fakeRules) Run(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

type fakeNames struct{ *kernel }

func (k fakeNames) SetZone(z overlaynet.Zone) (map[netip.Addr]uint16, error) {
	return nil, k.call("SetZone", func() { k.picture.zones[z.Network] = z })
}

func (k fakeNames) RemoveZone(network string) {
	_ = k.call("RemoveZone", func() {
		delete(k.picture.zones, network)
		maps.DeleteFunc(k.picture.hosts, func(_ [2]string, h overlaynet.Host) bool { return h.Network == network })
		maps.DeleteFunc(k.picture.services, func(_ [2]string, s overlaynet.Service) bool { return s.Network == network })
	})
}

func (k fakeNames) SetHost(h overlaynet.Host) {
	_ = k.call("SetHost", func() {
		if _, ok := k.picture.zones[h.Network]; ok { // as the resolver does
			k.picture.hosts[[2]string{h.Network, h.Sandbox}] = h
		}
	})
}

func (k fakeNames) RemoveHost(sandbox, network string) {
	_ = k.call("RemoveHost", func() { delete(k.picture.hosts, [2]string{network, sandbox}) })
}

func (k fakeNames) SetService(s overlaynet.Service) {
	_ = k.call("SetService", func() {
		if _, ok := k.picture.zones[s.Network]; ok {
			k.picture.services[[2]string{s.Network, s.Service}] = s
		}
	})
}

func (k fakeNames) RemoveService(network, service string) {
	_ = k.call("RemoveService", func() { delete(k.picture.services, [2]string{network, service}) })
}

func (fakeNames) Close() error { return nil }

type fakePorts struct{ *kernel }

func (k fakePorts) Reserve(f overlaynet.Frontend) (overlaynet.Reservation, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.taken[f.Port] {
		return nil, &overlaynet.PortTaken{Frontend: f, Holder: "process nginx (pid 812)"}
	}
	return fakeHeld{}, nil
}

func (fakePorts) Ephemeral() (first, last uint16) { return 49153, 65535 }

type fakeHeld struct{}

func (fakeHeld) Close() error                 { return nil }
func (fakeHeld) Forward([]overlaynet.Backend) {}

func (k fakeLinks) Answers(_ context.Context, at netip.AddrPort) bool { return k.answers[at] }
