package cluster

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Assignments returns the tasks of a node, by ID, with what it needs to run
// them. What they point to is shared and must not be changed.
func (m *Manager) Assignments(node string) []Assignment {
	snap := m.store.Snapshot()
	tasks := snap.NodeTasks(node)
	out := make([]Assignment, 0, len(tasks))
	stacks := map[string]*state.Stack{}
	services := map[[2]string]*state.Service{}
	for _, t := range tasks {
		s, ok := stacks[t.Stack]
		if !ok {
			s = snap.Stack(t.Stack)
			stacks[t.Stack] = s
		}
		key := [2]string{t.Stack, t.Service}
		sv, ok := services[key]
		if !ok {
			sv = snap.Service(t.Stack, t.Service)
			services[key] = sv
		}
		a := Assignment{Task: *t}
		if s != nil && sv != nil {
			a.Stack = &s.Spec
			a.Service, a.Hash = sv.SpecOf(t.Version)
		}
		if a.Service != nil {
			a.Auth = m.login(s, a.Service)
			a.Secrets = m.contentsOf(snap, kindSecret, a.Service.Container.Secrets, func(key string) string { return s.Spec.Secrets[key].Name })
			a.Configs = m.contentsOf(snap, kindConfig, a.Service.Container.Configs, func(key string) string { return s.Spec.Configs[key].Name })
		}
		out = append(out, a)
	}
	return out
}

// contentsOf finds the data of the files that a service's version uses, by key;
// nil when it uses none.
func (m *Manager) contentsOf(snap *state.Snapshot, kind string, refs []stack.FileRef, now func(key string) string) map[string][]byte {
	if len(refs) == 0 {
		return nil
	}
	out := make(map[string][]byte, len(refs))
	for _, r := range refs {
		name := r.Name
		if name == "" {
			name = now(r.Source)
		}
		if data, ok := m.content(snap, kind, name, r.Sum); ok {
			if data == nil {
				data = []byte{}
			}
			out[r.Source] = data
		}
	}
	return out
}

// Report stores what a node's agent observed, in one command.
func (m *Manager) Report(ctx context.Context, reports []TaskReport) error {
	changes := make([]state.Change, 0, len(reports))
	for _, r := range reports {
		r.Status.Time = r.Status.Time.UTC().Round(0)
		changes = append(changes, state.Change{Status: &state.Status{Task: r.Task, Status: r.Status}})
	}
	if _, err := m.propose(ctx, changes); err != nil {
		return fmt.Errorf("report status: %w", err)
	}
	return nil
}
