package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/runtime/runtimetest"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// world is a node without processes: manager, agent and the fake engine.
type world struct {
	t      testing.TB
	dir    string
	engine *runtimetest.Fake
	images *images
	m      *cluster.Manager
	drain  time.Duration // cluster.Config.DrainGrace
	stop   func()

	mu      sync.Mutex
	reports int // commands of the agent
}

type images struct {
	mu  sync.Mutex
	ids map[string]string // by reference; a reference that is missing does not exist anywhere
}

func (i *images) Image(_ context.Context, ref, _ string) (*runtime.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for name, id := range i.ids {
		if name == ref || id == ref {
			return &runtime.Image{ID: id}, nil
		}
	}
	return nil, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
}

func (i *images) Pull(ctx context.Context, ref string, _ runtime.PullOptions) (*runtime.Image, error) {
	return i.Image(ctx, ref, "")
}

func (i *images) set(ref, id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ids[ref] = id
}

type volumes struct{}

func (volumes) Ensure(context.Context, stack.Volume) error { return nil }
func (volumes) Discard(context.Context, string) error      { return nil }

// picker gives 10.N.0.0/16 in turn.
type picker struct{}

func (p picker) Pick(want stack.Network, beside cluster.Beside) (cluster.Picked, error) {
	if len(want.Subnets) > 0 {
		return cluster.Picked{Subnets: want.Subnets}, nil
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16)
		free := true
		for _, n := range beside.Networks {
			for _, s := range n.Subnets {
				free = free && s.CIDR != p.String()
			}
		}
		if free {
			return cluster.Picked{
				Subnets: []stack.Subnet{{CIDR: p.String(), Gateway: p.Addr().Next().String()}},
				Virtual: []string{fmt.Sprintf("10.255.%d.0/24", i)},
			}, nil
		}
	}
	return cluster.Picked{}, errors.New("no free subnet")
}

// source counts the agent's commands.
type source struct {
	*cluster.Manager
	w *world
}

func (s source) Report(ctx context.Context, r []stack.TaskReport) error {
	s.w.mu.Lock()
	s.w.reports++
	s.w.mu.Unlock()
	return s.Manager.Report(ctx, r)
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), engine: runtimetest.NewFake(), images: &images{ids: map[string]string{}}}
	for _, ref := range []string{"web:1", "web:2", "db:1", "job:1"} {
		w.images.set(ref, "sha256:"+ref)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	m, err := cluster.Open(cluster.Config{DataDir: w.dir, Subnets: picker{}, Images: w.images, DrainGrace: w.drain, Node: stack.Node{Hostname: "one", OS: "linux", Memory: 1 << 30}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
	ag := agent.New(agent.Config{
		Node: m.NodeID(), Cluster: m.ID(), Source: source{m, w}, Engine: w.engine, Images: w.images, Volumes: volumes{}, Events: w.engine.Bus,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); _ = m.Run(ctx) }()
	go func() { defer wg.Done(); _ = ag.Run(ctx) }()
	w.stop = func() {
		cancel()
		wg.Wait()
		if err := m.Close(); err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

func (w *world) up(s stack.Stack, opts ...plan.Options) *plan.Plan {
	w.t.Helper()
	var opt plan.Options
	if len(opts) > 0 {
		opt = opts[0]
	}
	p, _, err := w.m.ApplyStack(context.Background(), s, opt, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) control(act cluster.Action, services ...string) {
	w.t.Helper()
	if err := w.m.Control(context.Background(), "shop", act, cluster.ControlOptions{Services: services}); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition on the state and the engine.
func (w *world) until(what string, ok func(cluster.StackStatus) bool) cluster.StackStatus {
	w.t.Helper()
	timeout := time.After(time.Minute)
	for {
		changed := w.m.Changed()
		st, err := w.m.Stack("shop")
		if err != nil && !errors.Is(err, runtime.ErrNotFound) {
			w.t.Fatal(err)
		}
		if ok(st) {
			return st
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // the engine has no channel
		case <-timeout:
			w.t.Fatalf("waited in vain: %s\nservices: %+v\ntasks: %+v\nengine:\n%s", what, st.Services, st.Tasks, w.engine)
		}
	}
}

func ready(st cluster.StackStatus) bool {
	for _, s := range st.Services {
		if !s.Ready {
			return false
		}
	}
	return len(st.Services) > 0
}

func service(st cluster.StackStatus, name string) cluster.ServiceStatus {
	for _, s := range st.Services {
		if s.Name == name {
			return s
		}
	}
	return cluster.ServiceStatus{}
}

func (w *world) ids() map[string]string {
	w.t.Helper()
	all, err := w.engine.List(context.Background(), runtime.Filter{All: true})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range all {
		out[c.Name] = c.ID + " " + c.State.StartedAt.String()
	}
	return out
}

func svc(name, image string, replicas int, deps ...stack.Dependency) stack.Service {
	return stack.Service{
		Name: name, Replicas: replicas, DependsOn: deps,
		Container: stack.ContainerSpec{Image: image, Networks: []stack.Attachment{{Network: "default"}}},
	}
}

func shop(services ...stack.Service) stack.Stack {
	s := stack.Stack{Name: "shop", Services: map[string]stack.Service{}, Networks: map[string]stack.Network{"default": {Name: "shop_default", Key: "default"}}}
	for _, sv := range services {
		s.Services[sv.Name] = sv
	}
	return s
}

func withHealth(s stack.Service) stack.Service {
	s.Container.Healthcheck = &stack.Healthcheck{Test: []string{"CMD", "true"}}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
