package cluster

import (
	"maps"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// header is what the stack's own record keeps.
func header(s stack.Stack) stack.Stack {
	s.Services, s.Disabled = nil, nil
	return withoutData(s)
}

// withoutData is s without the content of its secrets and configs, for which
// their sums stand.
func withoutData(s stack.Stack) stack.Stack {
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

// assemble is the inverse of header: a stack as it was applied, with the sums of
// its secrets and configs as they are now.
func assemble(snap *state.Snapshot, name string) (stack.Stack, bool) {
	rec := snap.Stack(name)
	if rec == nil {
		return stack.Stack{}, false
	}
	s := definition(snap, rec)
	for key, v := range s.Secrets {
		if rec := recordOf(snap, kindSecret, v.Name); rec != nil && !v.External {
			v.Sum = rec.spec.Sum
			s.Secrets[key] = v
		}
	}
	for key, v := range s.Configs {
		if rec := recordOf(snap, kindConfig, v.Name); rec != nil && !v.External {
			v.Sum = rec.spec.Sum
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

// pinFiles fixes what the secrets and configs of a service are: what they are in
// s or, when old is not nil, what they were in that version of it.
func pinFiles(sv stack.Service, s stack.Stack, old *stack.Service) stack.Service {
	sv = sv.Clone()
	c, had := &sv.Container, stack.ContainerSpec{}
	if old != nil {
		had = old.Container
	}
	pin := func(refs, had []stack.FileRef, now func(key string) stack.Secret) {
		for i := range refs {
			r := &refs[i]
			r.Data, r.Name, r.Sum = nil, "", ""
			if old == nil {
				v := now(r.Source)
				r.Name, r.Sum = v.Name, v.Sum
			}
			for _, h := range had {
				if h.Source == r.Source {
					r.Name, r.Sum = h.Name, h.Sum
				}
			}
		}
	}
	pin(c.Secrets, had.Secrets, func(key string) stack.Secret { return s.Secrets[key] })
	pin(c.Configs, had.Configs, func(key string) stack.Secret { return stack.Secret(s.Configs[key]) })
	return sv
}

// guestChanges give the new contents of a stack's files to the services of
// other stacks that use them, as new versions of these. Each is a step of p.
func guestChanges(snap *state.Snapshot, p *plan.Plan, changed []file) (changes []state.Change) {
	if len(changed) == 0 {
		return nil
	}
	for _, rec := range snap.Stacks() {
		if rec.Name == p.Stack.Name || rec.Removing {
			continue
		}
		for _, sv := range snap.Services(rec.Name) {
			if c, cause := guestChange(snap, rec, sv, changed); c != nil {
				changes = append(changes, state.Change{Service: c})
				p.Steps = append(p.Steps, plan.Step{Action: plan.Recreate, Kind: plan.Service, Name: rec.Name + "/" + sv.Name,
					Cause: cause, From: sv.Spec.Replicas, To: sv.Spec.Replicas})
			}
		}
	}
	return changes
}

func guestChange(snap *state.Snapshot, rec *state.Stack, sv *state.Service, changed []file) (c *state.ServiceChange, cause string) {
	if sv.Removing {
		return nil, ""
	}
	spec := sv.Spec.Clone()
	for _, f := range changed {
		refs, name := spec.Container.Secrets, func(key string) stack.Secret { return rec.Spec.Secrets[key] }
		if f.kind == kindConfig {
			refs, name = spec.Container.Configs, func(key string) stack.Secret { return stack.Secret(rec.Spec.Configs[key]) }
		}
		for i := range refs {
			if v := name(refs[i].Source); v.External && v.Name == f.spec.Name && refs[i].Sum != f.spec.Sum {
				refs[i].Name, refs[i].Sum = f.spec.Name, f.spec.Sum
				cause = f.kind + " " + refs[i].Source + " changed"
			}
		}
	}
	if cause == "" {
		return nil, ""
	}
	whole := definition(snap, rec)
	whole.Services[sv.Name] = spec
	for _, f := range changed {
		whole.Secrets, whole.Configs = withSum(whole.Secrets, f), withConfigSum(whole.Configs, f)
	}
	c = &state.ServiceChange{Service: *sv, NewVersion: true}
	c.Spec, c.Hash = spec, whole.ServiceHash(sv.Name)
	return c, cause
}

func withSum(all map[string]stack.Secret, f file) map[string]stack.Secret {
	for key, v := range all {
		if f.kind == kindSecret && v.Name == f.spec.Name {
			v.Sum = f.spec.Sum
			all[key] = v
		}
	}
	return all
}

func withConfigSum(all map[string]stack.Config, f file) map[string]stack.Config {
	for key, v := range all {
		if f.kind == kindConfig && v.Name == f.spec.Name {
			v.Sum = f.spec.Sum
			all[key] = v
		}
	}
	return all
}
