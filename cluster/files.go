package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// header is what the stack's own record keeps.
func header(s stack.Stack) stack.Stack {
	s.Services, s.Disabled = nil, nil
	s.Secrets, s.Configs = maps.Clone(s.Secrets), maps.Clone(s.Configs)
	for key, v := range s.Secrets {
		v.Data = nil
		s.Secrets[key] = v
	}
	for key, v := range s.Configs {
		v.Data = nil
		s.Configs[key] = v
	}
	return s
}

// withoutContent keeps the content of secrets out of service specs.
func withoutContent(s stack.Service) stack.Service {
	s = s.Clone()
	for i := range s.Container.Secrets {
		s.Container.Secrets[i].Data = nil
	}
	for i := range s.Container.Configs {
		s.Container.Configs[i].Data = nil
	}
	return s
}

// assemble is the inverse of header: a stack as it was applied, with the
// content of its secrets and configs, which only a comparison needs.
func assemble(snap *state.Snapshot, name string) (stack.Stack, bool) {
	rec := snap.Stack(name)
	if rec == nil {
		return stack.Stack{}, false
	}
	s := definition(snap, rec)
	for key, v := range s.Secrets {
		if rec := snap.Secret(v.Name); rec != nil && !v.External {
			v.Data = slices.Clone(rec.Spec.Data)
			s.Secrets[key] = v
		}
	}
	for key, v := range s.Configs {
		if rec := snap.Config(v.Name); rec != nil && !v.External {
			v.Data = slices.Clone(rec.Spec.Data)
			s.Configs[key] = v
		}
	}
	return s, true
}

// definition is a stack as it was applied, without the content of its secrets
// and configs: what anybody may be told who asks how the stack is doing.
func definition(snap *state.Snapshot, rec *state.Stack) stack.Stack {
	s := rec.Spec.Clone()
	s.Services = map[string]stack.Service{}
	for _, sv := range snap.Services(rec.Name) {
		s.Services[sv.Name] = sv.Spec.Clone()
	}
	return s
}

// file is a secret or a config of a stack, beside the record of its name.
type file struct {
	kind, key, name string
	external        bool
	hash            string
	record          state.Key
	store           state.Change // makes the record

	exists      bool
	owner, have string // of the record: its stack and its hash
}

// filesOf lists the secrets and then the configs of a stack, by key.
func filesOf(snap *state.Snapshot, s stack.Stack) (out []file) {
	for _, key := range sortedKeys(s.Secrets) {
		v := s.Secrets[key]
		f := file{kind: "secret", key: key, name: v.Name, external: v.External, hash: v.Hash(), record: state.Key{Table: state.TableSecret, Name: v.Name}}
		f.store.Secret = &state.Secret{Name: v.Name, Stack: s.Name, Spec: v}
		if old := snap.Secret(v.Name); old != nil {
			f.exists, f.owner, f.have = true, old.Stack, old.Spec.Hash()
		}
		out = append(out, f)
	}
	for _, key := range sortedKeys(s.Configs) {
		v := s.Configs[key]
		f := file{kind: "config", key: key, name: v.Name, external: v.External, hash: v.Hash(), record: state.Key{Table: state.TableConfig, Name: v.Name}}
		f.store.Config = &state.Config{Name: v.Name, Stack: s.Name, Spec: v}
		if old := snap.Config(v.Name); old != nil {
			f.exists, f.owner, f.have = true, old.Stack, old.Spec.Hash()
		}
		out = append(out, f)
	}
	return out
}

// fileChanges stores the content of secrets and configs and forgets those that
// the stack has no more.
func fileChanges(snap *state.Snapshot, s stack.Stack) ([]state.Change, error) {
	var changes []state.Change
	keep := map[state.Key]bool{}
	for _, f := range filesOf(snap, s) {
		switch {
		case f.external && !f.exists:
			return nil, fmt.Errorf("%s %s is external, and there is none of the name %s: %w", f.kind, f.key, f.name, runtime.ErrNotFound)
		case f.external:
			continue
		case f.exists && f.owner != s.Name:
			return nil, fmt.Errorf("%s %s: the name %s is taken by stack %s: %w", f.kind, f.key, f.name, f.owner, runtime.ErrConflict)
		}
		keep[f.record] = true
		if f.have != f.hash {
			changes = append(changes, f.store)
		}
	}
	for _, k := range fileKeys(snap, s.Name) {
		if !keep[k] {
			changes = append(changes, state.Change{Delete: &k})
		}
	}
	return changes, nil
}

// fileKeys are the secrets and configs that a stack made.
func fileKeys(snap *state.Snapshot, stackName string) []state.Key {
	var keys []state.Key
	for _, v := range snap.StackSecrets(stackName) {
		keys = append(keys, state.Key{Table: state.TableSecret, Name: v.Name})
	}
	for _, v := range snap.StackConfigs(stackName) {
		keys = append(keys, state.Key{Table: state.TableConfig, Name: v.Name})
	}
	return keys
}
