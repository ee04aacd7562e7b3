package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

func TestUpTwiceChangesNothing(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "web:1", 3), svc("db", "db:1", 1))
	w.up(s)
	w.until("all run", ready)
	before := w.ids()
	if p := w.up(s); !p.Empty() {
		t.Errorf("second apply: %s", p)
	}
	s.Services["web"] = svc("web", "web:2", 3)
	w.up(s)
	w.until("web is of the new version", func(st cluster.StackStatus) bool { return ready(st) && service(st, "web").Image == "web:2" })
	after := w.ids()
	if before["shop-db-1"] != after["shop-db-1"] {
		t.Error("db was touched")
	}
	for _, name := range []string{"shop-web-1", "shop-web-2", "shop-web-3"} {
		if before[name] == after[name] || after[name] == "" {
			t.Errorf("%s was not recreated", name)
		}
	}
}

func TestRestartOfTheDaemonTouchesNothing(t *testing.T) {
	w := newWorld(t)
	w.up(shop(svc("web", "web:1", 3), svc("db", "db:1", 1)))
	w.until("all run", ready)
	before, index := w.ids(), w.m.Index()
	w.stop()
	w.start()
	w.until("all run", ready)
	if err := w.engine.Exit("shop-web-2", 3); err != nil {
		t.Fatal(err)
	}
	w.until("failure is seen", func(st cluster.StackStatus) bool { return service(st, "web").Failed == 1 })
	after := w.ids()
	for name, id := range before {
		if after[name] != id {
			t.Errorf("%s was touched", name)
		}
	}
	if w.m.Index() > index+6 {
		t.Errorf("index went from %d to %d", index, w.m.Index())
	}
}

func TestDependenciesGateStartAndStop(t *testing.T) {
	w := newWorld(t)
	migrate := svc("migrate", "job:1", 1, stack.Dependency{Service: "db", Condition: stack.Healthy})
	s := shop(withHealth(svc("db", "db:1", 1)), migrate,
		svc("web", "web:1", 2, stack.Dependency{Service: "db", Condition: stack.Healthy}, stack.Dependency{Service: "migrate", Condition: stack.Completed}))
	w.up(s)
	st := w.until("db runs", func(st cluster.StackStatus) bool { return service(st, "db").Running == 1 })
	if m := service(st, "web").Message; m != "waits for db to be healthy" {
		t.Errorf("web says %q", m)
	}
	must(t, w.engine.SetHealth("shop-db-1", "healthy"))
	w.until("migrate runs", func(st cluster.StackStatus) bool { return service(st, "migrate").Running == 1 })
	must(t, w.engine.Exit("shop-migrate-1", 0))
	w.until("web runs", func(st cluster.StackStatus) bool { return ready(st) && service(st, "web").Running == 2 })

	var order []string
	ctx, cancel := context.WithCancel(context.Background())
	events := w.engine.Bus.Subscribe(ctx, time.Time{}, time.Time{})
	must(t, w.m.RemoveStack(context.Background(), "shop", cluster.RemoveOptions{}))
	w.until("the stack is gone", func(st cluster.StackStatus) bool { return st.Stack.Name == "" })
	cancel()
	for e := range events {
		if e.Action == "destroy" {
			order = append(order, e.Attrs["name"])
		}
	}
	if got := strings.Join(order, " "); !strings.HasSuffix(got, "shop-migrate-1 shop-db-1") {
		t.Errorf("removed in the order %s", got)
	}
	if got := w.engine.String(); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	if n := w.m.Networks(); len(n) != 1 {
		t.Errorf("networks left: %v", n)
	}
}

func TestAFailedDependencyIsNamed(t *testing.T) {
	w := newWorld(t)
	w.up(shop(svc("db", "db:1", 1), svc("web", "web:1", 1, stack.Dependency{Service: "db", Condition: stack.Completed})))
	w.until("db runs", func(st cluster.StackStatus) bool { return service(st, "db").Running == 1 })
	must(t, w.engine.Exit("shop-db-1", 1))
	st := w.until("web failed", func(st cluster.StackStatus) bool { return service(st, "web").Failed == 1 })
	if m := service(st, "web").Message; m != "depends on db, which failed: exit code 1" {
		t.Errorf("web says %q", m)
	}
	// The next apply tries db again, and then web goes on.
	p := w.up(shop(svc("db", "db:1", 1), svc("web", "web:1", 1, stack.Dependency{Service: "db", Condition: stack.Completed})))
	if p.Empty() {
		t.Error("apply with a failed service: nothing to do")
	}
	w.until("db runs again", func(st cluster.StackStatus) bool { return service(st, "db").Running == 1 })
	must(t, w.engine.Exit("shop-db-1", 0))
	w.until("web runs", func(st cluster.StackStatus) bool { return service(st, "web").Running == 1 })
}

func TestACompletedOneShotRunsAgainOnlyWhenAsked(t *testing.T) {
	w := newWorld(t)
	job := svc("job", "job:1", 1)
	job.Container.Command = []string{"true"}
	w.up(shop(job))
	w.until("done", func(st cluster.StackStatus) bool { return service(st, "job").Completed == 1 && ready(st) })
	first := w.ids()["shop-job-1"]
	if p := w.up(shop(job)); !p.Empty() {
		t.Errorf("apply after completion: %s", p)
	}
	w.control(cluster.Start)
	st := w.until("done again", func(st cluster.StackStatus) bool { return ready(st) && st.Tasks[0].Status.Restarts == 1 })
	second := w.ids()["shop-job-1"]
	if first == second || strings.Fields(first)[0] != strings.Fields(second)[0] {
		t.Errorf("started again: %s, then %s (%+v)", first, second, st.Tasks)
	}
	job.Container.Env = []string{"A=1"}
	w.up(shop(job))
	w.until("done with the new spec", func(st cluster.StackStatus) bool {
		return ready(st) && strings.Fields(w.ids()["shop-job-1"] + " ?")[0] != strings.Fields(first)[0]
	})
}

func TestStopStartRestartPause(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("db", "db:1", 1), svc("web", "web:1", 2, stack.Dependency{Service: "db", Condition: stack.Started, Restart: true}))
	w.up(s)
	w.until("all run", ready)
	first := w.ids()
	w.control(cluster.Stop)
	w.until("stopped", func(st cluster.StackStatus) bool {
		return strings.Count(w.engine.String(), " exited ") == 3 && settledStop(st)
	})
	w.control(cluster.Start, "web") // and db, which it needs
	w.until("run again", ready)
	second := w.ids()
	w.control(cluster.Restart, "db") // and web, which asks for it
	w.until("restarted", func(st cluster.StackStatus) bool {
		now := w.ids()
		return ready(st) && now["shop-db-1"] != second["shop-db-1"] && now["shop-web-1"] != second["shop-web-1"] && now["shop-web-2"] != second["shop-web-2"]
	})
	w.control(cluster.Pause, "web")
	w.until("paused", func(cluster.StackStatus) bool { return strings.Count(w.engine.String(), " paused ") == 2 })
	w.control(cluster.Unpause, "web")
	w.until("unpaused", func(st cluster.StackStatus) bool {
		return ready(st) && strings.Count(w.engine.String(), " paused ") == 0
	})
	must(t, w.engine.Pause(context.Background(), "shop-db-1")) // by hand: left alone
	w.until("pause is seen", func(st cluster.StackStatus) bool { return st.Tasks[0].Status.Paused })
	must(t, w.engine.Unpause(context.Background(), "shop-db-1"))
	w.control(cluster.Stop, "web")
	w.until("web stopped", func(st cluster.StackStatus) bool {
		return strings.Count(w.engine.String(), " exited ") == 2 && settledStop(st)
	})
	w.control(cluster.Remove)
	w.until("web's containers are gone, db's stays", func(cluster.StackStatus) bool { return len(w.ids()) == 1 })
	if p := w.up(s); p.Empty() {
		t.Error("apply after rm: nothing to do")
	}
	w.until("all run", func(st cluster.StackStatus) bool { return ready(st) && len(w.ids()) == 3 })
	if now := w.ids(); strings.Fields(now["shop-db-1"])[0] != strings.Fields(first["shop-db-1"])[0] {
		t.Error("db was recreated on the way")
	}
}

func settledStop(st cluster.StackStatus) bool {
	for _, t := range st.Tasks {
		if t.Desired == stack.DesiredStop && t.Status.Followed != stack.DesiredStop {
			return false
		}
	}
	return true
}

func TestByHand(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "web:1", 2))
	w.up(s)
	w.until("all run", ready)
	ctx := context.Background()
	must(t, w.engine.Remove(ctx, "shop-web-1", runtime.RemoveOptions{Force: true}))
	w.until("made again", func(st cluster.StackStatus) bool { return ready(st) && len(w.ids()) == 2 })
	must(t, w.engine.Stop(ctx, "shop-web-2", "", nil))
	w.until("the stop is seen", func(st cluster.StackStatus) bool { return service(st, "web").Message == stack.StoppedByHand })
	must(t, w.engine.Remove(ctx, "shop-web-1", runtime.RemoveOptions{Force: true})) // gives the agent something to do
	w.until("the other one runs", func(st cluster.StackStatus) bool { return service(st, "web").Running == 1 && len(w.ids()) == 2 })
	if !strings.Contains(w.engine.String(), "shop-web-2 exited") {
		t.Errorf("what a person stopped was started:\n%s", w.engine)
	}
	w.up(s)
	w.until("apply starts it", ready)
}

func TestScaleRemovesHighestAndOrphansGo(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "web:1", 4))
	w.up(s)
	w.until("all run", ready)
	before := w.ids()
	must(t, w.m.Scale(context.Background(), "shop", map[string]int{"web": 2}))
	w.until("two are left", func(st cluster.StackStatus) bool { return len(w.ids()) == 2 && len(st.Tasks) == 2 })
	if now := w.ids(); now["shop-web-1"] != before["shop-web-1"] || now["shop-web-2"] != before["shop-web-2"] {
		t.Errorf("the wrong ones went: %v", now)
	}
	w.stop()
	stray := stack.ContainerSpec{Image: "x", Labels: map[string]string{agent.LabelTask: "gone", agent.LabelCluster: w.m.ID()}}
	foreign := stack.ContainerSpec{Image: "x", Labels: map[string]string{agent.LabelTask: "gone", agent.LabelCluster: "another"}}
	for name, spec := range map[string]stack.ContainerSpec{"stray": stray, "foreign": foreign} {
		if _, _, err := w.engine.Create(context.Background(), name, spec); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.until("the stray container goes", func(cluster.StackStatus) bool { return w.ids()["stray"] == "" })
	if w.ids()["foreign"] == "" {
		t.Error("a container of another cluster was removed")
	}
}

func TestNetworkIsReplacedWhenNobodyUsesIt(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "web:1", 2), svc("db", "db:1", 1))
	w.up(s)
	w.until("all run", ready)
	old, _ := w.m.Network("shop_default")
	s.Networks["default"] = stack.Network{Name: "shop_default", Key: "default", Internal: true}
	w.up(s)
	w.until("all run in the new network", func(st cluster.StackStatus) bool {
		n, _ := w.m.Network("shop_default")
		return ready(st) && n.Internal && n.ID != old.ID
	})
}

func TestErrorsAreTold(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "nosuch:1", 1))
	w.up(s)
	st := w.until("failed", func(st cluster.StackStatus) bool { return service(st, "web").Failed == 1 })
	if m := service(st, "web").Message; !strings.Contains(m, "nosuch:1") {
		t.Errorf("message %q", m)
	}
	w.images.set("nosuch:1", "sha256:nosuch") // and it is there after all
	w.until("runs", ready)

	big := svc("big", "web:1", 1)
	big.Container.Resources.ReservedMemory = 2 << 30
	s.Services["big"] = big
	w.up(s)
	st = w.until("refused", func(st cluster.StackStatus) bool { return service(st, "big").Message != "" })
	if m := service(st, "big").Message; m != "big.1: no node fits: 1 lacks memory (want 2GiB)" {
		t.Errorf("message %q", m)
	}

	ctx := context.Background()
	if err := w.m.Control(ctx, "shop", cluster.Start, cluster.ControlOptions{Services: []string{"nope"}}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("start of an unknown service: %v", err)
	}
	if err := w.m.RemoveStack(ctx, "nope", cluster.RemoveOptions{}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("removal of an unknown stack: %v", err)
	}
	if err := w.m.RemoveNetwork(ctx, "shop_default"); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("removal of a stack's network: %v", err)
	}
}

func TestSharedNamespaceFollowsItsContainer(t *testing.T) {
	w := newWorld(t)
	side := svc("side", "web:1", 1)
	side.Container.Networks, side.Container.NetworkMode = nil, "service:web"
	w.up(shop(svc("web", "web:1", 1), side))
	w.until("all run", ready)
	must(t, w.engine.Remove(context.Background(), "shop-web-1", runtime.RemoveOptions{Force: true}))
	w.until("side joins the new container", func(st cluster.StackStatus) bool {
		web, err := w.engine.Inspect(context.Background(), "shop-web-1")
		s, err2 := w.engine.Inspect(context.Background(), "shop-side-1")
		return err == nil && err2 == nil && s.Spec.NetworkMode == "container:"+web.ID && ready(st)
	})
}

func TestSecretsReachTheEngineAndTheirChangeRecreatesUsers(t *testing.T) {
	w := newWorld(t)
	web := svc("web", "web:1", 1)
	web.Container.Secrets = []stack.FileRef{{Source: "pw", Target: "/run/secrets/pw"}}
	s := shop(web, svc("db", "db:1", 1))
	s.Secrets = map[string]stack.Secret{"pw": {Name: "shop_pw", Key: "pw", Data: []byte("one")}}
	w.up(s)
	w.until("all run", ready)
	before := w.ids()
	s.Secrets["pw"] = stack.Secret{Name: "shop_pw", Key: "pw", Data: []byte("two")}
	w.up(s)
	w.until("web has the new secret", func(st cluster.StackStatus) bool {
		c, err := w.engine.Inspect(context.Background(), "shop-web-1")
		return ready(st) && err == nil && string(c.Spec.Secrets[0].Data) == "two"
	})
	if w.ids()["shop-db-1"] != before["shop-db-1"] {
		t.Error("db was touched")
	}
}

func TestANewerImageOfTheSameNameIsAChange(t *testing.T) {
	w := newWorld(t)
	s := shop(svc("web", "web:1", 1))
	w.up(s)
	w.until("all run", ready)
	w.images.set("web:1", "sha256:newer")
	p := w.up(s)
	if _, ok := p.Step(plan.Service, "web", plan.Recreate); !ok {
		t.Errorf("plan: %s", p)
	}
	w.until("runs the newer image", func(st cluster.StackStatus) bool {
		c, err := w.engine.Inspect(context.Background(), "shop-web-1")
		return ready(st) && err == nil && c.Spec.ImageID == "sha256:newer"
	})
}

func TestSixtyReplicasCostLittle(t *testing.T) {
	w := newWorld(t)
	index := w.m.Index()
	start := time.Now()
	w.up(shop(svc("web", "web:1", 60)))
	w.until("all run", func(st cluster.StackStatus) bool { return service(st, "web").Running == 60 })
	took := time.Since(start)
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("60 tasks in %s (%s each), %d commands, %d of them reports", took, took/60, w.m.Index()-index, w.reports)
	if commands := w.m.Index() - index; commands > 30 {
		t.Errorf("%d commands", commands)
	}
}

func TestUpWithNothingToDoIsCheap(t *testing.T) {
	w := newWorld(t)
	var services []stack.Service
	for i := range 50 {
		sv := svc(fmt.Sprintf("s%02d", i), "web:1", 1)
		for j := range 20 {
			sv.Container.Env = append(sv.Container.Env, fmt.Sprintf("KEY_%d=value %d", j, i))
		}
		services = append(services, sv)
	}
	s := shop(services...)
	w.up(s)
	w.until("all run", ready)
	best := time.Hour
	for tries := 0; tries < 5 || best > 20*time.Millisecond && tries < 100; tries++ { // the machine may be busy
		start := time.Now()
		if p := w.up(s); !p.Empty() {
			t.Fatalf("plan: %s", p)
		}
		best = min(best, time.Since(start))
	}
	t.Logf("50 services, nothing to do: %s", best)
	if best > 20*time.Millisecond {
		t.Errorf("took %s", best)
	}
}
