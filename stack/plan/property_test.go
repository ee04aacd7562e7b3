package plan

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// stacks draws stacks in which every network, volume, secret and config is used.
func stacks() *rapid.Generator[stack.Stack] {
	return rapid.Custom(func(t *rapid.T) stack.Stack {
		s := stack.Stack{Name: "shop", Services: map[string]stack.Service{}, Networks: map[string]stack.Network{},
			Volumes: map[string]stack.Volume{}, Secrets: map[string]stack.Secret{}, Configs: map[string]stack.Config{}}
		for i := range rapid.IntRange(0, 4).Draw(t, "services") {
			svc := service(t, fmt.Sprintf("s%d", i), i)
			for _, a := range svc.Container.Networks {
				if _, ok := s.Networks[a.Network]; !ok {
					s.Networks[a.Network] = stack.Network{Name: "shop_" + a.Network, Key: a.Network, Internal: rapid.Bool().Draw(t, "internal"), Attachable: rapid.Bool().Draw(t, "attachable")}
				}
			}
			for _, m := range svc.Container.Mounts {
				if _, ok := s.Volumes[m.Source]; !ok {
					s.Volumes[m.Source] = stack.Volume{Name: rapid.SampledFrom([]string{"shop_", "other_"}).Draw(t, "volume name") + m.Source, Key: m.Source}
				}
			}
			for _, r := range svc.Container.Secrets {
				if _, ok := s.Secrets[r.Source]; !ok {
					s.Secrets[r.Source] = stack.Secret{Name: "shop_" + r.Source, Key: r.Source, Data: []byte(rapid.SampledFrom([]string{"1", "2"}).Draw(t, "secret"))}
				}
			}
			for _, r := range svc.Container.Configs {
				if _, ok := s.Configs[r.Source]; !ok {
					s.Configs[r.Source] = stack.Config{Name: "shop_" + r.Source, Key: r.Source, Data: []byte(rapid.SampledFrom([]string{"1", "2"}).Draw(t, "config"))}
				}
			}
			s.Services[svc.Name] = svc
		}
		return s
	})
}

func service(t *rapid.T, name string, index int) stack.Service {
	pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
	svc := stack.Service{Name: name, Replicas: rapid.IntRange(0, 3).Draw(t, "replicas"), Mode: stack.Mode(pick("mode", "", "", "", "global"))}
	svc.Container.Image = pick("image", "redis:7", "redis:8")
	if rapid.Bool().Draw(t, "env") {
		svc.Container.Env = []string{"LOG_LEVEL=" + pick("level", "a", "b")}
	}
	svc.Container.Restart.Condition = pick("restart", "", "always")
	svc.Deploy.EndpointMode = pick("endpoint", "", "vip", "dnsrr")
	for _, n := range []string{"front", "back"} {
		if rapid.Bool().Draw(t, n) {
			svc.Container.Networks = append(svc.Container.Networks, stack.Attachment{Network: n})
		}
	}
	if rapid.Bool().Draw(t, "volume") {
		svc.Container.Mounts = []stack.Mount{{Type: stack.MountVolume, Source: pick("volume key", "v1", "v2"), Target: "/data"}}
	}
	if rapid.Bool().Draw(t, "secret") {
		svc.Container.Secrets = []stack.FileRef{{Source: pick("secret key", "x", "y"), Target: "/x"}}
	}
	if rapid.Bool().Draw(t, "config") {
		svc.Container.Configs = []stack.FileRef{{Source: pick("config key", "x", "y"), Target: "/y"}}
	}
	if index > 0 && rapid.Bool().Draw(t, "depends") {
		svc.DependsOn = []stack.Dependency{{Service: fmt.Sprintf("s%d", rapid.IntRange(0, index-1).Draw(t, "on")), Condition: stack.Started, Restart: rapid.Bool().Draw(t, "restart dep")}}
	}
	return svc
}

// apply carries out the steps on a, with want's definitions. It knows nothing
// but the steps: what they do not mention stays.
func apply(t *rapid.T, a, want stack.Stack, p *Plan) stack.Stack {
	out := a.Clone()
	for _, s := range p.Steps {
		switch s.Kind {
		case Service:
			out.Services = set(out.Services, want.Services, s)
		case Network:
			out.Networks = set(out.Networks, want.Networks, s)
		case Volume:
			out.Volumes = set(out.Volumes, want.Volumes, s)
		case Secret:
			out.Secrets = set(out.Secrets, want.Secrets, s)
		case Config:
			out.Configs = set(out.Configs, want.Configs, s)
		default:
			t.Fatalf("step of no kind: %v", s)
		}
	}
	return out
}

func set[T any](have, want map[string]T, s Step) map[string]T {
	if have == nil {
		have = map[string]T{}
	}
	if v, ok := want[s.Name]; ok && s.Action != Remove {
		have[s.Name] = v
	} else {
		delete(have, s.Name)
	}
	return have
}

func TestNothingToDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := stacks().Draw(t, "b")
		have := b.Clone()
		if p := Diff(b, Snapshot{Stack: &have}, Options{RemoveOrphans: rapid.Bool().Draw(t, "orphans")}); !p.Empty() || len(p.Notes) > 0 {
			t.Fatalf("a stack differs from itself:\n%s", p)
		}
		// The state keeps stacks as JSON: a round through it makes no difference either.
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var back stack.Stack
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if p := Diff(b, Snapshot{Stack: &back}, Options{}); !p.Empty() {
			t.Fatalf("JSON makes a difference:\n%s", p)
		}
	})
}

func TestApplyYieldsWant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := stacks().Draw(t, "a"), stacks().Draw(t, "b")
		p := Diff(b, Snapshot{Stack: &a}, Options{RemoveOrphans: true})
		if err := p.Err(); err != nil {
			t.Fatalf("refused: %v", err)
		}
		if diff := cmp.Diff(b, apply(t, a, b, p)); diff != "" {
			t.Fatalf("after the plan\n%s\nthe stack is not the wanted one: %s", p, diff)
		}
		if diff := cmp.Diff(b, p.Stack); diff != "" {
			t.Fatalf("Plan.Stack is not the wanted one: %s", diff)
		}
		if again := Diff(b, Snapshot{Stack: &p.Stack}, Options{RemoveOrphans: true}); !again.Empty() {
			t.Fatalf("a second apply changes something:\n%s", again)
		}
	})
}

// TestOnlyWhatChanged checks that a service whose hash stays has no recreate
// step, unless something that it uses or shares is made again.
func TestOnlyWhatChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := stacks().Draw(t, "a"), stacks().Draw(t, "b")
		p := Diff(b, Snapshot{Stack: &a}, Options{})
		for _, s := range p.Steps {
			if s.Kind != Service || s.Action != Recreate {
				continue
			}
			if _, ok := b.Services[s.Name]; ok && a.ServiceHash(s.Name) == b.ServiceHash(s.Name) {
				t.Fatalf("recreated without a change: %v", s)
			}
			if s.Cause == "" {
				t.Fatalf("no cause: %v", s)
			}
		}
		for name := range b.Services {
			if _, existed := a.Services[name]; existed && a.Services[name].Hash() != b.Services[name].Hash() {
				if _, ok := p.Step(Service, name, Recreate); !ok {
					t.Fatalf("%s changed and is not recreated:\n%s", name, p)
				}
			}
		}
	})
}

func TestScaleRecreatesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := stacks().Draw(t, "a")
		counts := map[string]int{}
		for _, name := range a.ServiceNames() {
			if a.Services[name].Mode == stack.Replicated {
				counts[name] = rapid.IntRange(0, 5).Draw(t, "count")
			}
		}
		for _, s := range Diff(a, Snapshot{Stack: &a}, Options{Scale: counts}).Steps {
			if s.Action != Scale {
				t.Fatalf("scaling does more: %v", s)
			}
		}
	})
}
