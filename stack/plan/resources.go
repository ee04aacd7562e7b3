package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// findRemadeNetworks marks the networks whose definition changes. It runs
// before the services are compared: their users have to be recreated.
func (d *differ) findRemadeNetworks() {
	for key, n := range d.want.Networks {
		old, ok := d.old.Networks[key]
		if ok && Remade(old, n) {
			d.remade[key] = true
		}
	}
}

// resources decides for networks, volumes, secrets and configs, once it is
// known which services stay.
func (d *differ) resources() {
	d.keepUsed()
	if len(d.opt.Services) > 0 {
		d.dropUnused()
	}
	for _, key := range sortedKeys(d.want.Networks, d.old.Networks) {
		d.network(key)
	}
	for _, key := range sortedKeys(d.want.Volumes, d.old.Volumes) {
		d.volume(key)
	}
	for _, key := range sortedKeys(d.want.Secrets, d.old.Secrets) {
		want, wanted := d.want.Secrets[key]
		old, exists := d.old.Secrets[key]
		d.file(Secret, key, wanted, exists, fileCause(old.Name, want.Name, old.External, want.External, old.Hash() != want.Hash(), old.Labels, want.Labels))
	}
	for _, key := range sortedKeys(d.want.Configs, d.old.Configs) {
		want, wanted := d.want.Configs[key]
		old, exists := d.old.Configs[key]
		d.file(Config, key, wanted, exists, fileCause(old.Name, want.Name, old.External, want.External, old.Hash() != want.Hash(), old.Labels, want.Labels))
	}
}

// dropUnused leaves out what only services use that this apply is not about and that do not exist.
func (d *differ) dropUnused() {
	used := map[string]bool{}
	for _, svc := range d.want.Services {
		for _, a := range svc.Container.Networks {
			used["network "+a.Network] = true
		}
		for _, m := range svc.Container.Mounts {
			used["volume "+m.Source] = true
		}
		for _, r := range svc.Container.Secrets {
			used["secret "+r.Source] = true
		}
		for _, r := range svc.Container.Configs {
			used["config "+r.Source] = true
		}
	}
	drop(d.want.Networks, d.old.Networks, "network ", used)
	drop(d.want.Volumes, d.old.Volumes, "volume ", used)
	drop(d.want.Secrets, d.old.Secrets, "secret ", used)
	drop(d.want.Configs, d.old.Configs, "config ", used)
}

func drop[T any](want, old map[string]T, kind string, used map[string]bool) {
	maps.DeleteFunc(want, func(key string, _ T) bool {
		_, exists := old[key]
		return !used[kind+key] && !exists
	})
}

// keepUsed takes over from the old stack what services that stay as they are
// still use, and drops nothing: an orphan must not lose its network.
func (d *differ) keepUsed() {
	for _, name := range d.want.ServiceNames() {
		if _, ok := d.old.Services[name]; !ok {
			continue
		}
		c := d.want.Services[name].Container
		for _, a := range c.Networks {
			d.want.Networks = keep(d.want.Networks, d.old.Networks, a.Network)
		}
		for _, m := range c.Mounts {
			if m.Type == stack.MountVolume {
				d.want.Volumes = keep(d.want.Volumes, d.old.Volumes, m.Source)
			}
		}
		for _, r := range c.Secrets {
			d.want.Secrets = keep(d.want.Secrets, d.old.Secrets, r.Source)
		}
		for _, r := range c.Configs {
			d.want.Configs = keep(d.want.Configs, d.old.Configs, r.Source)
		}
	}
}

func keep[T any](to, from map[string]T, key string) map[string]T {
	v, ok := from[key]
	if _, has := to[key]; has || !ok {
		return to
	}
	if to == nil {
		to = map[string]T{}
	}
	to[key] = v
	return to
}

func (d *differ) network(key string) {
	want, wanted := d.want.Networks[key]
	old, exists := d.old.Networks[key]
	switch {
	case !exists && !want.External:
		d.before = append(d.before, Step{Action: Create, Kind: Network, Name: key, Cause: "new"})
	case !exists:
		d.before = append(d.before, Step{Action: Update, Kind: Network, Name: key, Cause: "external network " + want.Name})
	case !wanted && old.External:
		d.after = append(d.after, Step{Action: Update, Kind: Network, Name: key, Cause: "external network " + old.Name + " is not used any more"})
	case !wanted:
		d.after = append(d.after, Step{Action: Remove, Kind: Network, Name: key, Cause: "not used any more"})
	case d.remade[key]:
		for _, user := range d.keptUsers(key) {
			d.refuse = append(d.refuse, Step{Kind: Network, Name: key,
				Cause: "has to be made again (" + join(networkCauses(old, want)) + "), but service " + user + " uses it and is not to be recreated"})
		}
		d.before = append(d.before, Step{Action: Recreate, Kind: Network, Name: key, Cause: join(networkCauses(old, want))})
	default:
		if causes := networkUpdates(old, want); len(causes) > 0 {
			d.before = append(d.before, Step{Action: Update, Kind: Network, Name: key, Cause: join(causes)})
		}
	}
}

// keptUsers are the services that are attached to a network and that this apply leaves alone.
func (d *differ) keptUsers(key string) []string {
	var users []string
	for _, name := range d.want.ServiceNames() {
		if s := d.steps[name]; s.Action == Recreate || s.Action == Create {
			continue
		}
		if slices.ContainsFunc(d.want.Services[name].Container.Networks, func(a stack.Attachment) bool { return a.Network == key }) {
			users = append(users, name)
		}
	}
	return users
}

// volume decides for one volume. Data is never lost here: a volume that is not
// in the file any more stays, and one that would have to be made anew is refused.
func (d *differ) volume(key string) {
	want, wanted := d.want.Volumes[key]
	old, exists := d.old.Volumes[key]
	switch {
	case !exists && want.External:
		d.before = append(d.before, Step{Action: Update, Kind: Volume, Name: key, Cause: "external volume " + want.Name})
	case !exists:
		d.before = append(d.before, Step{Action: Create, Kind: Volume, Name: key, Cause: "new"})
	case !wanted:
		if !old.External {
			d.notes = append(d.notes, Step{Kind: Volume, Name: key, Cause: fmt.Sprintf("not in the file any more: %s is kept with its data; `dhow volume rm %s` removes it", old.Name, old.Name)})
		}
		d.after = append(d.after, Step{Action: Update, Kind: Volume, Name: key, Cause: "not used any more, kept"})
	case old.Name != want.Name || old.External != want.External:
		d.before = append(d.before, Step{Action: Update, Kind: Volume, Name: key, Cause: join(append(change("name", old.Name, want.Name), change("external", old.External, want.External)...))})
	case orDefault(old.Driver, "local") != orDefault(want.Driver, "local") || !equal(old.DriverOpts, want.DriverOpts):
		causes := append(change("driver", orDefault(old.Driver, "local"), orDefault(want.Driver, "local")), mapCauses("driver option", old.DriverOpts, want.DriverOpts)...)
		d.refuse = append(d.refuse, Step{Kind: Volume, Name: key, Cause: fmt.Sprintf(
			"%s: %s exists and is not made anew because its data would be lost; back it up and remove it (`dhow volume backup %s`, `dhow volume rm %s`), or give the volume another name", join(causes), old.Name, old.Name, old.Name)})
	case !equal(old.Labels, want.Labels):
		d.before = append(d.before, Step{Action: Update, Kind: Volume, Name: key, Cause: join(mapCauses("label", old.Labels, want.Labels))})
	}
}

func (d *differ) file(kind Kind, key string, wanted, exists bool, cause string) {
	switch {
	case !exists:
		d.before = append(d.before, Step{Action: Create, Kind: kind, Name: key, Cause: "new"})
	case !wanted:
		d.after = append(d.after, Step{Action: Remove, Kind: kind, Name: key, Cause: "not used any more"})
	case cause != "":
		d.before = append(d.before, Step{Action: Update, Kind: kind, Name: key, Cause: cause})
	}
}

// fileCause says what differs between two secrets or configs, "" when nothing
// does. Content is never shown; that of an external one is its owner's to change.
func fileCause(oldName, name string, oldExt, ext, differs bool, oldLabels, labels map[string]string) string {
	causes := append(change("name", oldName, name), change("external", oldExt, ext)...)
	if differs && len(causes) == 0 && !ext {
		causes = append(causes, "content changed")
	}
	return join(append(causes, mapCauses("label", oldLabels, labels)...))
}

// external refuses networks and volumes that should exist and do not.
func (d *differ) external() {
	for _, key := range slices.Sorted(maps.Keys(d.want.Networks)) {
		if n := d.want.Networks[key]; n.External && d.have.Networks != nil && !d.have.Networks[n.Name] {
			d.refuse = append(d.refuse, Step{Kind: Network, Name: key, Cause: fmt.Sprintf("external network %s does not exist; `dhow network create %s` makes it", n.Name, n.Name)})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.want.Volumes)) {
		if v := d.want.Volumes[key]; v.External && d.have.Volumes != nil && !d.have.Volumes[v.Name] {
			d.refuse = append(d.refuse, Step{Kind: Volume, Name: key, Cause: fmt.Sprintf("external volume %s does not exist; `dhow volume create %s` makes it", v.Name, v.Name)})
		}
	}
}

// plan puts the steps in order: resources, removed services (users first),
// services (what is needed first), resources that go.
func (d *differ) plan() *Plan {
	p := &Plan{Notes: d.notes, Refused: d.refuse, Stack: d.want}
	p.Steps = append(p.Steps, d.before...)
	gone := d.old.Clone()
	for _, name := range slices.Backward(order(gone)) {
		if s, ok := d.steps[name]; ok && s.Action == Remove {
			p.Steps = append(p.Steps, s)
		}
	}
	for _, name := range order(d.want) {
		if s, ok := d.steps[name]; ok && s.Action != Remove {
			p.Steps = append(p.Steps, s)
		}
	}
	p.Steps = append(p.Steps, d.after...)
	return p
}

// order is the dependency order, flattened; by name when there is a cycle.
func order(s stack.Stack) []string {
	levels, err := s.DependencyOrder()
	if err != nil {
		return s.ServiceNames()
	}
	return slices.Concat(levels...)
}

func sortedKeys[T any](a, b map[string]T) []string {
	keys := append(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b))...)
	slices.Sort(keys)
	return slices.Compact(keys)
}
