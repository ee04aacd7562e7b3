package cluster

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

const (
	resolveTime   = 5 * time.Second // that a deployment waits for registries to say what names mean
	resolveAtOnce = 8
)

// Images tells which image a reference means on this node now.
type Images interface {
	Image(ctx context.Context, ref, platform string) (*runtime.Image, error)
}

// Resolver tells which bytes a reference means elsewhere: on other nodes or,
// where allowed, at its registry. Nothing is fetched.
type Resolver interface {
	Resolve(ctx context.Context, ref string, opt runtime.PullOptions) (stack.Pin, error)
}

// PinLocal finds the images that this node has for the services of s, by
// service. It is asked on the node where a person deploys the stack, which may
// be the only one that has them.
func PinLocal(ctx context.Context, s stack.Stack, images Images) map[string]stack.Pin {
	pins := map[string]stack.Pin{}
	if images == nil {
		return pins
	}
	seen := map[[2]string]stack.Pin{}
	for name, sv := range s.Services {
		c := sv.Container
		if !c.Pin().None() || c.Image == "" {
			continue
		}
		ref := [2]string{c.Image, c.Platform}
		pin, known := seen[ref]
		if !known {
			if img, err := images.Image(ctx, c.Image, c.Platform); err == nil { // absent: it is looked for elsewhere
				pin = stack.Pin{Digest: img.Target, ImageID: img.ID, Platforms: img.Platforms}
			}
			seen[ref] = pin
		}
		if !pin.None() {
			pins[name] = pin
		}
	}
	return pins
}

// pinElsewhere finds pins for services that have none and that are new, or
// whose image is another one than before: on this node, which leads, on other
// nodes, at the registry. What cannot be found out stays unpinned and is told in
// a note: each node then takes what the name means when it pulls.
func (m *Manager) pinElsewhere(ctx context.Context, s stack.Stack, pins map[string]stack.Pin, logins Logins) (notes []plan.Step) {
	left := s
	left.Services = map[string]stack.Service{}
	snap := m.store.Snapshot()
	for name, sv := range s.Services {
		old := snap.Service(s.Name, name)
		if _, has := pins[name]; !has && sv.Container.Pin().None() && (old == nil || old.Spec.Container.Image != sv.Container.Image) {
			left.Services[name] = sv
		}
	}
	if len(left.Services) == 0 {
		return nil
	}
	for name, pin := range PinLocal(ctx, left, m.cfg.Images) {
		pins[name] = pin
		delete(left.Services, name)
	}
	if m.cfg.Resolver == nil || len(left.Services) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	answers := m.resolveImages(ctx, left, logins)
	for _, name := range left.ServiceNames() {
		a := answers[wantOf(left.Services[name].Container)]
		if a.err == nil {
			pins[name] = a.pin
			continue
		}
		m.log.Info("image is not pinned", "stack", s.Name, "service", name, "image", left.Services[name].Container.Image, "err", a.err)
		notes = append(notes, plan.Step{Kind: plan.Service, Name: name, Cause: "its image is not pinned, nodes take what the name means to them: " + a.err.Error()})
	}
	return notes
}

// want is one image to be resolved.
type want struct{ image, platform, pull string }

func wantOf(c stack.ContainerSpec) want { return want{c.Image, c.Platform, c.Pull} }

type answer struct {
	pin stack.Pin
	err error
}

// resolveImages asks for each image of s once, several at a time.
func (m *Manager) resolveImages(ctx context.Context, s stack.Stack, logins Logins) map[want]answer {
	var mu sync.Mutex
	answers := map[want]answer{}
	var g errgroup.Group
	g.SetLimit(resolveAtOnce)
	for _, sv := range s.Services {
		w := wantOf(sv.Container)
		mu.Lock()
		_, known := answers[w]
		if !known {
			answers[w] = answer{} // until it is asked for
		}
		mu.Unlock()
		if known || w.image == "" {
			continue
		}
		g.Go(func() error {
			pin, err := m.resolveImage(ctx, w, logins.of(w.image))
			mu.Lock()
			defer mu.Unlock()
			answers[w] = answer{pin, err}
			return nil
		})
	}
	_ = g.Wait() // they return none
	return answers
}

// registryTime is how long a registry may take to say what a name means before
// the other nodes are asked.
const registryTime = 2500 * time.Millisecond

// resolveImage asks the registry what a name means. Another node's word counts
// only when the registry does not answer: whoever controls a node must not
// decide what all nodes run.
func (m *Manager) resolveImage(ctx context.Context, w want, auth *stack.RegistryAuth) (stack.Pin, error) {
	opt := runtime.PullOptions{Platform: w.platform, Auth: auth}
	if w.pull != "never" {
		limited, cancel := context.WithTimeout(ctx, registryTime)
		defer cancel()
		opt.NoPeers = true
		if pin, err := m.cfg.Resolver.Resolve(limited, w.image, opt); err == nil {
			return pin, nil
		}
		opt.NoPeers = false
	}
	opt.Anywhere, opt.NoRegistry = true, w.pull == "never"
	return m.cfg.Resolver.Resolve(ctx, w.image, opt)
}

// pin fixes the image of each service to the bytes that the reference means
// now, so that all its tasks run the same and a newer image of the same name is
// a change. A service whose tasks run that image already stays as it is stored,
// pinned or not.
func pin(s stack.Stack, pins map[string]stack.Pin, snap *state.Snapshot) stack.Stack {
	s.Services = maps.Clone(s.Services)
	for name, p := range pins {
		sv, ok := s.Services[name]
		if !ok {
			continue
		}
		if old := snap.Service(s.Name, name); old != nil && old.Spec.Container.Image == sv.Container.Image {
			have := old.Spec.Container.Pin()
			if have.None() && runsOnly(snap, old, p.ImageID) {
				continue
			}
			if have.Same(p) {
				p = have
			}
		}
		sv.Container = sv.Container.Pinned(p)
		s.Services[name] = sv
	}
	return s
}

// runsOnly reports whether no task of a service runs another image.
func runsOnly(snap *state.Snapshot, sv *state.Service, image string) bool {
	for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
		if t.Version == sv.Version && t.Status.ImageID != "" && t.Status.ImageID != image {
			return false
		}
	}
	return true
}
