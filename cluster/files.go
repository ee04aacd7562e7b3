package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// The kinds of files that containers get.
const (
	kindSecret = "secret"
	kindConfig = "config"
)

// record is that of a secret or a config, whose records differ in their table only.
type record struct {
	kind, name, stack string
	spec              stack.Secret
	versions          []state.Content
	gone              bool
}

// recordOf returns the record of a real name, nil when there is none.
func recordOf(snap *state.Snapshot, kind, name string) *record {
	if kind == kindSecret {
		if v := snap.Secret(name); v != nil {
			return &record{kind, v.Name, v.Stack, v.Spec, v.Versions, v.Gone}
		}
		return nil
	}
	if v := snap.Config(name); v != nil {
		return &record{kind, v.Name, v.Stack, stack.Secret(v.Spec), v.Versions, v.Gone}
	}
	return nil
}

// recordsOf are those that a stack made: secrets, then configs.
func recordsOf(snap *state.Snapshot, stackName string) (out []*record) {
	for _, v := range snap.StackSecrets(stackName) {
		out = append(out, recordOf(snap, kindSecret, v.Name))
	}
	for _, v := range snap.StackConfigs(stackName) {
		out = append(out, recordOf(snap, kindConfig, v.Name))
	}
	return out
}

// store is the change that makes r the record of its name.
func (r *record) store() state.Change {
	if r.kind == kindSecret {
		return state.Change{Secret: &state.Secret{Name: r.name, Stack: r.stack, Spec: r.spec, Versions: r.versions, Gone: r.gone}}
	}
	return state.Change{Config: &state.Config{Name: r.name, Stack: r.stack, Spec: stack.Config(r.spec), Versions: r.versions, Gone: r.gone}}
}

func (r *record) drop() state.Change {
	table := state.TableSecret
	if r.kind == kindConfig {
		table = state.TableConfig
	}
	return state.Change{Delete: &state.Key{Table: table, Name: r.name}}
}

// version is a sealed content.
func (r *record) version(sum string) ([]byte, bool) {
	for _, v := range r.versions {
		if v.Sum == sum {
			return v.Sealed, true
		}
	}
	return nil, false
}

func (r *record) same(o *record) bool {
	return r.stack == o.stack && r.gone == o.gone && r.spec.Sum == o.spec.Sum && r.spec.Key == o.spec.Key && o.spec.Data == nil &&
		maps.Equal(r.spec.Labels, o.spec.Labels) && slices.EqualFunc(r.versions, o.versions, func(a, b state.Content) bool { return a.Sum == b.Sum })
}

// file is a secret or a config of a stack, by its key there.
type file struct {
	kind string
	key  string
	spec stack.Secret
}

// filesOf lists the secrets and then the configs of a stack, by key.
func filesOf(s stack.Stack) (out []file) {
	for _, key := range sortedKeys(s.Secrets) {
		out = append(out, file{kindSecret, key, s.Secrets[key]})
	}
	for _, key := range sortedKeys(s.Configs) {
		out = append(out, file{kindConfig, key, stack.Secret(s.Configs[key])})
	}
	return out
}

// fileChanges stores the contents of secrets and configs, sealed, and forgets
// versions that nothing refers to any more. changed are those of which there is
// a new content.
func (m *Manager) fileChanges(snap *state.Snapshot, s stack.Stack) (changes []state.Change, changed []file, err error) {
	refs := &references{snap: snap}
	keep := map[[2]string]bool{}
	for _, f := range filesOf(s) {
		old := recordOf(snap, f.kind, f.spec.Name)
		switch {
		case f.spec.External && (old == nil || old.gone):
			return nil, nil, fmt.Errorf("%s %s is external, and there is none of the name %s: %w", f.kind, f.key, f.spec.Name, runtime.ErrNotFound)
		case f.spec.External:
			continue
		case old != nil && !old.gone && old.stack != s.Name:
			return nil, nil, fmt.Errorf("%s %s: the name %s is taken by stack %s: %w", f.kind, f.key, f.spec.Name, old.stack, runtime.ErrConflict)
		}
		keep[[2]string{f.kind, f.spec.Name}] = true
		now, err := m.next(old, s.Name, f, refs)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", f.kind, f.key, err)
		}
		if old == nil || !now.same(old) {
			changes = append(changes, now.store())
		}
		if old != nil && old.spec.Sum != f.spec.Sum {
			changed = append(changed, f)
		}
	}
	for _, r := range recordsOf(snap, s.Name) {
		if !keep[[2]string{r.kind, r.name}] {
			changes = append(changes, r.retire(refs)...)
		}
	}
	return changes, changed, nil
}

// next is the record of f with its content as the newest version.
func (m *Manager) next(old *record, stackName string, f file, refs *references) (*record, error) {
	now := &record{kind: f.kind, name: f.spec.Name, stack: stackName, spec: f.spec}
	now.spec.Data = nil
	if old != nil {
		now.versions = slices.DeleteFunc(slices.Clone(old.versions), func(v state.Content) bool {
			return v.Sum != f.spec.Sum && !refs.has(v.Sum)
		})
	}
	if _, ok := now.version(f.spec.Sum); ok {
		return now, nil
	}
	if f.spec.Data == nil { // of an earlier revision
		return nil, fmt.Errorf("its content of that time is not kept any more: %w", runtime.ErrNotFound)
	}
	sealed, err := m.cfg.Seal.Seal(f.spec.Data, aboutContent(f.kind, f.spec.Sum))
	if err != nil {
		return nil, err
	}
	now.versions = append(now.versions, state.Content{Sum: f.spec.Sum, Sealed: sealed})
	return now, nil
}

// retire lets go of what the stack has no more, but for versions that something
// refers to.
func (r *record) retire(refs *references) []state.Change {
	now := *r
	now.gone, now.spec.Sum, now.spec.Data = true, "", nil
	now.versions = slices.DeleteFunc(slices.Clone(r.versions), func(v state.Content) bool { return !refs.has(v.Sum) })
	switch {
	case len(now.versions) == 0:
		return []state.Change{r.drop()}
	case now.same(r):
		return nil
	}
	return []state.Change{now.store()}
}

// lentFiles refuses to let go of secrets and configs that other stacks use.
func lentFiles(snap *state.Snapshot, stackName string) error {
	own := map[[2]string]bool{}
	for _, r := range recordsOf(snap, stackName) {
		own[[2]string{r.kind, r.name}] = !r.gone
	}
	if len(own) == 0 {
		return nil
	}
	for _, s := range snap.Stacks() {
		if s.Name == stackName || s.Removing {
			continue
		}
		for _, f := range filesOf(s.Spec) {
			if f.spec.External && own[[2]string{f.kind, f.spec.Name}] {
				return fmt.Errorf("%s %s is used by stack %s, which must be taken down first: %w", f.kind, f.spec.Name, s.Name, runtime.ErrConflict)
			}
		}
	}
	return nil
}

// references are the sums of contents that versions of services, which may be
// used by tasks or be gone back to, and revisions of stacks refer to.
type references struct {
	snap *state.Snapshot
	sums map[string]bool // nil until asked for: it takes a look at everything
}

func (r *references) has(sum string) bool {
	if r.sums == nil {
		r.sums = map[string]bool{}
		for _, s := range r.snap.Stacks() {
			for _, sv := range r.snap.Services(s.Name) {
				r.add(&sv.Spec.Container)
				for i := range sv.History {
					r.add(&sv.History[i].Spec.Container)
				}
			}
			for _, rev := range r.snap.Revisions(s.Name) {
				for _, sum := range rev.Files {
					r.sums[sum] = true
				}
			}
		}
	}
	return r.sums[sum]
}

func (r *references) add(c *stack.ContainerSpec) {
	for _, f := range c.Secrets {
		r.sums[f.Sum] = true
	}
	for _, f := range c.Configs {
		r.sums[f.Sum] = true
	}
}
