package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// elsewhere answers for registries and other nodes.
type elsewhere struct {
	mu    sync.Mutex
	pins  map[string]stack.Pin // by reference
	asked []string             // guarded by mu: reference and what was allowed
}

func (e *elsewhere) Resolve(_ context.Context, ref string, opt runtime.PullOptions) (stack.Pin, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	user := ""
	if opt.Auth != nil {
		user = opt.Auth.Username
	}
	e.asked = append(e.asked, fmt.Sprintf("%s anywhere=%v noregistry=%v nopeers=%v user=%s", ref, opt.Anywhere, opt.NoRegistry, opt.NoPeers, user))
	if p, ok := e.pins[ref]; ok {
		return p, nil
	}
	return stack.Pin{}, errors.New("registry does not answer")
}

func (e *elsewhere) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := slices.Sorted(slices.Values(e.asked))
	e.asked = nil
	return asked
}

// pinWorld is a manager that nothing runs.
func pinWorld(t *testing.T, images cluster.Images, resolver cluster.Resolver) (*cluster.Manager, string) {
	t.Helper()
	dir := t.TempDir()
	ring, err := seal.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := cluster.Open(cluster.Config{DataDir: dir, Subnets: picker{}, Images: images, Resolver: resolver, Seal: ring, Node: stack.Node{Hostname: "one", OS: "linux", Memory: 1 << 30}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, dir
}

func deploy(t *testing.T, m *cluster.Manager, d cluster.Deployment) *plan.Plan {
	t.Helper()
	p, _, err := m.Deploy(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pinOf(t *testing.T, m *cluster.Manager, service string) stack.Pin {
	t.Helper()
	st, err := m.Stack("shop")
	if err != nil {
		t.Fatal(err)
	}
	return st.Stack.Services[service].Container.Pin()
}

func TestPinsOfADeployment(t *testing.T) {
	local := &images{ids: map[string]string{"local:1": "sha256:local"}}
	far := &elsewhere{pins: map[string]stack.Pin{"far:1": {Digest: "sha256:far"}, "always:1": {Digest: "sha256:always"}}}
	m, _ := pinWorld(t, local, far)
	never, always := svc("never", "never:1", 1), svc("always", "always:1", 1)
	never.Container.Pull, always.Container.Pull = "never", "always"
	s := shop(svc("origin", "origin:1", 1), svc("local", "local:1", 1), svc("far", "far:1", 1), svc("far2", "far:1", 1), svc("gone", "gone:1", 1), never, always)
	d := cluster.Deployment{Stack: s, Pins: map[string]stack.Pin{"origin": {Digest: "sha256:o", ImageID: "sha256:i", Platforms: []string{"linux/amd64"}}},
		Logins: cluster.Logins{"docker.io": {Username: "ann"}}}
	p := deploy(t, m, d)
	for service, want := range map[string]stack.Pin{
		"origin": {Digest: "sha256:o", ImageID: "sha256:i", Platforms: []string{"linux/amd64"}}, "local": {ImageID: "sha256:local"},
		"far": {Digest: "sha256:far"}, "far2": {Digest: "sha256:far"}, "always": {Digest: "sha256:always"}, "gone": {}, "never": {},
	} {
		if got := pinOf(t, m, service); got.Digest != want.Digest || got.ImageID != want.ImageID || len(got.Platforms) != len(want.Platforms) {
			t.Errorf("%s is pinned to %+v, want %+v", service, got, want)
		}
	}
	want := []string{"always:1 anywhere=false noregistry=false nopeers=true user=ann", "far:1 anywhere=false noregistry=false nopeers=true user=ann",
		"gone:1 anywhere=false noregistry=false nopeers=true user=ann", "gone:1 anywhere=true noregistry=false nopeers=false user=ann", "never:1 anywhere=true noregistry=true nopeers=false user=ann"} // the registry's word first
	if got := far.take(); !slices.Equal(got, want) {
		t.Errorf("asked\n%s", strings.Join(got, "\n"))
	}
	if len(p.Notes) != 2 || !strings.Contains(fmt.Sprint(p.Notes), "registry does not answer") {
		t.Errorf("notes %v", p.Notes)
	}
	// Nothing changes, and nobody is asked, when the same comes again: from the
	// same node, from one that has the image in another form, from one that has nothing.
	for name, pins := range map[string]map[string]stack.Pin{
		"same": d.Pins, "other form": {"origin": {Digest: "sha256:other", ImageID: "sha256:i"}}, "nothing": {},
	} {
		d.Pins = pins
		if p := deploy(t, m, d); !p.Empty() || len(far.take()) > 0 {
			t.Errorf("%s: %s", name, p)
		}
	}
	// A newer image of the node that deploys is a change, of that service alone.
	d.Pins = map[string]stack.Pin{"origin": {Digest: "sha256:new", ImageID: "sha256:newer"}}
	if p := deploy(t, m, d); len(p.Steps) != 1 || p.Steps[0].Name != "origin" || !strings.Contains(p.Steps[0].Cause, "image origin:1 is now newer, was i") {
		t.Errorf("newer image: %s", p)
	}
	// Another reference is looked for again.
	sv := s.Services["far"]
	sv.Container.Image = "far:2"
	s.Services["far"] = sv
	far.pins["far:2"] = stack.Pin{Digest: "sha256:far2"}
	if p := deploy(t, m, d); len(p.Steps) != 1 || pinOf(t, m, "far").Digest != "sha256:far2" {
		t.Errorf("other reference: %s, %+v", p, pinOf(t, m, "far"))
	}
}

// Logins are sealed, renewed by each deployment, and told to the nodes of tasks that need them.
func TestLoginsOfADeployment(t *testing.T) {
	m, dir := pinWorld(t, nil, nil)
	a, b := svc("a", "one.example/a:1", 1), svc("b", "two.example/b:1", 1)
	d := cluster.Deployment{Stack: shop(a, b, svc("hub", "redis", 1)), Pins: map[string]stack.Pin{},
		Logins: cluster.Logins{"one.example": {Username: "ann", Password: "hunter2-first"}, "unused.example": {Username: "x", Password: "hunter2-unused"}}}
	deploy(t, m, d)
	auth := func() map[string]string {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		defer func() { cancel(); <-done }()
		for {
			changed := m.Changed()
			got := map[string]string{}
			for _, as := range m.Assignments(m.NodeID()) {
				got[as.Task.Service] = ""
				if as.Auth != nil {
					got[as.Task.Service] = as.Auth.Username + ":" + as.Auth.Password
				}
			}
			if len(got) == len(d.Stack.Services) {
				return got
			}
			select {
			case <-changed:
			case <-t.Context().Done():
				t.Fatalf("assigned %d", len(got))
			}
		}
	}
	if got := auth(); got["a"] != "ann:hunter2-first" || got["b"] != "" || got["hub"] != "" {
		t.Errorf("logins %v", got)
	}
	// The next deployment renews what it brings, keeps what it does not; with the same nothing is written.
	d.Logins = cluster.Logins{"two.example": {IdentityToken: "t", Username: "bob", Password: "hunter2-b"}}
	deploy(t, m, d)
	d.Logins = cluster.Logins{"one.example": {Username: "ann", Password: "hunter2-second"}}
	if p := deploy(t, m, d); !p.Empty() {
		t.Errorf("a login is no change: %s", p)
	}
	if got := auth(); got["a"] != "ann:hunter2-second" || got["b"] != "bob:hunter2-b" {
		t.Errorf("logins %v", got)
	}
	before := m.Index()
	deploy(t, m, d)
	if m.Index() != before {
		t.Error("the same logins were written again")
	}
	// No word of them on disk or in what is told about the stack.
	st, err := m.Stack("shop")
	if err != nil || strings.Contains(fmt.Sprintf("%+v", st), "hunter2") {
		t.Errorf("told, %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("%s has a password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// Without a service of that registry the login goes.
	delete(d.Stack.Services, "b")
	d.Logins, d.Options.RemoveOrphans = nil, true
	deploy(t, m, d)
	d.Stack.Services["b"] = b
	deploy(t, m, d)
	if got := auth(); got["a"] != "ann:hunter2-second" || got["b"] != "" {
		t.Errorf("logins %v", got)
	}
}
