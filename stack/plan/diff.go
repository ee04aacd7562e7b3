package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Diff returns what has to happen so that have becomes want.
//
// Services that want does not have stay as they are when want.Disabled names
// them or when options do not choose them; the others are orphans, which stay
// and are noted, unless opt.RemoveOrphans.
func Diff(want stack.Stack, have Snapshot, opt Options) *Plan {
	d := newDiffer(want, have, opt)
	d.services()
	d.restartDependents()
	d.resources()
	d.external()
	return d.plan()
}

// differ collects what Diff finds. Nothing in it outlives the call.
type differ struct {
	want   stack.Stack // clone, with opt.Scale applied; becomes Plan.Stack
	old    stack.Stack // what exists; zero when there is nothing
	have   Snapshot
	opt    Options
	chosen map[string]bool // services of want that this apply is about
	steps  map[string]Step // of services, by name; at most one each
	before []Step          // networks, volumes, secrets, configs: before the services
	after  []Step          // removals of those, after the services
	notes  []Step
	refuse []Step
	remade map[string]bool // networks (keys) that are removed and made again
}

func newDiffer(want stack.Stack, have Snapshot, opt Options) *differ {
	d := &differ{
		want:   want.Clone(),
		have:   have,
		opt:    opt,
		chosen: map[string]bool{},
		steps:  map[string]Step{},
		remade: map[string]bool{},
	}
	if have.Stack != nil {
		d.old = have.Stack.Clone()
	}
	if d.want.Services == nil {
		d.want.Services = map[string]stack.Service{}
	}
	names := want.ServiceNames()
	if len(opt.Services) > 0 {
		names = want.Closure(opt.Services)
		if opt.NoDeps {
			names = slices.Clone(opt.Services)
		}
	}
	for _, name := range names {
		_, known := want.Services[name]
		d.chosen[name] = known
	}
	for _, name := range opt.Services {
		if !d.chosen[name] {
			d.refuse = append(d.refuse, Step{Kind: Service, Name: name, Cause: "no such service"})
		}
	}
	d.scale()
	d.findRemadeNetworks()
	return d
}

// scale puts the asked numbers of replicas over the file's.
func (d *differ) scale() {
	for _, name := range slices.Sorted(maps.Keys(d.opt.Scale)) {
		n := d.opt.Scale[name]
		svc, ok := d.want.Services[name]
		switch {
		case !ok:
			d.refuse = append(d.refuse, Step{Kind: Service, Name: name, Cause: "scale: no such service"})
			continue
		case n < 0:
			d.refuse = append(d.refuse, Step{Kind: Service, Name: name, Cause: fmt.Sprintf("scale: %d is less than 0", n)})
			continue
		case n > 1 && svc.ContainerName != "":
			d.refuse = append(d.refuse, Step{Kind: Service, Name: name, Cause: fmt.Sprintf("scale: only one container can be named %s", svc.ContainerName)})
			continue
		case svc.Mode == stack.Global || svc.Mode == stack.GlobalJob:
			d.refuse = append(d.refuse, Step{Kind: Service, Name: name, Cause: "scale: a global service has one task on each node"})
			continue
		}
		svc.Replicas = n
		d.want.Services[name] = svc
	}
}

// services decides for every service of want and of the old stack.
func (d *differ) services() {
	for _, name := range d.want.ServiceNames() {
		old, exists := d.old.Services[name]
		switch {
		case !d.chosen[name] && exists:
			d.keep(name)
		case !d.chosen[name]:
			delete(d.want.Services, name)
		case !exists:
			d.steps[name] = Step{Action: Create, Kind: Service, Name: name, Cause: "new", To: d.want.Services[name].Replicas}
		default:
			d.existing(name, old)
		}
	}
	for _, name := range d.old.ServiceNames() {
		if _, ok := d.want.Services[name]; ok {
			continue
		}
		d.unwanted(name)
	}
}

// unwanted decides for a service that exists and that want does not have.
func (d *differ) unwanted(name string) {
	switch {
	case slices.Contains(d.want.Disabled, name):
		d.keep(name)
	case d.opt.RemoveOrphans:
		d.steps[name] = Step{Action: Remove, Kind: Service, Name: name, Cause: "not in the file any more", From: d.old.Services[name].Replicas}
	default:
		d.keep(name)
		d.notes = append(d.notes, Step{Kind: Service, Name: name, Cause: "orphan: not in the file any more; --remove-orphans removes it"})
	}
}

// keep leaves a service as it is, though what it uses may change under it.
func (d *differ) keep(name string) {
	old := d.old.Services[name]
	d.want.Services[name] = old
	if causes := d.resourceCauses(old); len(causes) > 0 {
		d.steps[name] = Step{Action: Recreate, Kind: Service, Name: name, Cause: join(causes), From: old.Replicas, To: old.Replicas}
	}
}

// existing decides for a service that is in both stacks.
func (d *differ) existing(name string, old stack.Service) {
	want := d.want.Services[name]
	if want.Container.ImageID == "" && want.Container.Digest == "" && want.Container.Image == old.Container.Image {
		want.Container.ImageID, want.Container.Digest, want.Container.Platforms = old.Container.ImageID, old.Container.Digest, old.Container.Platforms
		d.want.Services[name] = want
	}
	causes := d.recreateCauses(old, want)
	if d.opt.NoRecreate && len(causes) > 0 {
		d.notes = append(d.notes, Step{Kind: Service, Name: name, Cause: "not recreated, as asked: " + strings.Join(causes, "; ")})
		kept := old
		kept.Replicas = want.Replicas
		want, causes = kept, nil
		d.want.Services[name] = kept
	}
	if d.opt.ForceRecreate && len(causes) == 0 {
		causes = []string{"asked for"}
	}
	step := Step{Kind: Service, Name: name, From: old.Replicas, To: want.Replicas, Cause: strings.Join(causes, "; ")}
	switch idle := d.idle(name); {
	case len(causes) > 0:
		step.Action = Recreate
	case old.Replicas != want.Replicas:
		step.Action = Scale
		step.Cause = fmt.Sprintf("replicas %d -> %d", old.Replicas, want.Replicas)
	case len(updateCauses(old, want)) > 0:
		step.Action = Update
		step.Cause = strings.Join(updateCauses(old, want), "; ")
	case idle != "":
		step.Action = Start
		step.Cause = idle
	default:
		return
	}
	if step.Action == Scale {
		if more := updateCauses(old, want); len(more) > 0 {
			step.Cause += "; " + strings.Join(more, "; ")
		}
	}
	d.steps[name] = step
}

// idle says why tasks of a service have to be started: a person stopped or
// paused them, or they failed. A task that completed has done its work.
func (d *differ) idle(name string) string {
	var stopped, paused, failed int
	for _, t := range d.have.Tasks {
		if t.Service != name {
			continue
		}
		switch {
		case t.Desired == stack.DesiredStop:
			stopped++
		case t.Desired == stack.DesiredPause:
			paused++
		case t.Desired == stack.DesiredRun && t.Status.State == stack.TaskFailed:
			failed++
		}
	}
	var causes []string
	for _, c := range []struct {
		n    int
		word string
	}{{stopped, "stopped"}, {paused, "paused"}, {failed, "failed"}} {
		if c.n > 0 {
			causes = append(causes, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	return strings.Join(causes, ", ")
}

// restartDependents adds what a recreated service does to others: those that
// share its namespaces are recreated, those that ask for it are restarted.
func (d *differ) restartDependents() {
	for changed := true; changed; {
		changed = false
		for _, name := range d.want.ServiceNames() {
			if !d.chosen[name] || d.steps[name].Action == Recreate || d.steps[name].Action == Create {
				continue
			}
			if step, ok := d.dependentStep(name); ok {
				d.steps[name] = step
				changed = true
			}
		}
	}
}

// dependentStep is the stronger step of a service that follows from the steps
// of the services it depends on, if there is one.
func (d *differ) dependentStep(name string) (Step, bool) {
	svc, cur := d.want.Services[name], d.steps[name]
	step := Step{Kind: Service, Name: name, From: d.old.Services[name].Replicas, To: svc.Replicas}
	join := func(cause string) string {
		if cur.Cause == "" {
			return cause
		}
		return cur.Cause + "; " + cause
	}
	for _, other := range svc.SharesNamespaces() {
		if d.steps[other].Action == Recreate {
			step.Action, step.Cause = Recreate, join("shares a namespace of "+other+", which is recreated")
			return step, true
		}
	}
	if cur.Action == Restart {
		return Step{}, false
	}
	for _, dep := range svc.DependsOn {
		if a := d.steps[dep.Service].Action; dep.Restart && (a == Recreate || a == Restart) && cur.Action != Scale {
			step.Action, step.Cause = Restart, join("depends on "+dep.Service+", which is "+past(a))
			return step, true
		}
	}
	return Step{}, false
}

func past(a Action) string {
	if a == Restart {
		return "restarted"
	}
	return "recreated"
}
