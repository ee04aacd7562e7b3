package reconcile

import (
	"fmt"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// gate says whether tasks of a service may start. The zero gate is open.
type gate struct {
	state   stack.TaskState // TaskPending: wait, TaskFailed: a dependency failed
	message string
}

func (g gate) open() bool { return g.message == "" }

func wait(format string, args ...any) gate {
	return gate{stack.TaskPending, fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) gate {
	return gate{stack.TaskFailed, fmt.Sprintf(format, args...)}
}

func (r *round) waiting(g gate) stack.TaskStatus {
	return stack.TaskStatus{State: g.state, Message: g.message}
}

// gate evaluates what s needs. A failure is told before a wait, so that nobody
// waits for what cannot come; it is no final word: when the dependency
// recovers, the gate opens.
func (r *round) gate(s *service) gate {
	if g := r.networkGate(s); !g.open() {
		return g
	}
	if s.Desired == stack.DesiredCreate {
		return gate{} // what does not start needs nothing that runs
	}
	return r.dependencyGate(s)
}

func (r *round) networkGate(s *service) gate {
	for _, a := range s.Spec.Container.Networks {
		if slices.Contains(r.in.Stale, a.Network) {
			if who := r.in.Held[a.Network]; who != "" {
				return wait("waits for network %s to be replaced: %s", a.Network, who)
			}
			return wait("waits for network %s to be replaced", a.Network)
		}
	}
	return gate{}
}

func (r *round) dependencyGate(s *service) gate {
	var first gate
	for _, d := range dependencies(s.Spec) {
		if r.atZero(d.Service) && !slices.Contains(s.Spec.Shares(), d.Service) {
			continue
		}
		g := r.condition(d)
		if g.open() {
			continue
		}
		if d.Optional && (g.state == stack.TaskFailed || r.absent(d.Service)) {
			continue
		}
		if g.state == stack.TaskFailed {
			return g
		}
		if first.open() {
			first = g
		}
	}
	return first
}

// dependencies are those of depends_on and what else s needs to be there.
func dependencies(s *stack.Service) []stack.Dependency {
	deps := slices.Clone(s.DependsOn)
	for _, name := range s.Needs() {
		if !slices.ContainsFunc(deps, func(d stack.Dependency) bool { return d.Service == name }) {
			deps = append(deps, stack.Dependency{Service: name, Condition: stack.Started})
		}
	}
	return deps
}

// atZero reports whether a service is wanted without any task. Like Compose,
// others do not wait for it: they could never start, and those that run already
// could not be moved from a node that is lost. Who shares something with a task
// of it needs that task.
func (r *round) atZero(name string) bool {
	s := r.byName[name]
	return s != nil && !s.leaving() && !global(s.Spec.Mode) && s.Spec.Replicas == 0
}

// absent reports whether a service is not meant to run.
func (r *round) absent(name string) bool {
	s := r.byName[name]
	return s == nil || s.down() || len(s.keys) == 0
}

// condition evaluates one dependency over all wanted tasks of the other service.
func (r *round) condition(d stack.Dependency) gate {
	s := r.byName[d.Service]
	switch {
	case s == nil || s.leaving():
		return wait("waits for %s, which is not there", d.Service)
	case len(s.keys) == 0:
		return wait("waits for %s, which has no tasks", d.Service)
	case s.Desired == stack.DesiredStop:
		return wait("waits for %s, which is stopped", d.Service)
	case s.Desired == stack.DesiredCreate:
		return wait("waits for %s, which is not started", d.Service)
	}
	var first gate
	for _, k := range s.keys {
		if r.asleep(k) {
			continue // nobody waits for a node to come back
		}
		g := r.taskCondition(d, s, s.at[k])
		if g.state == stack.TaskFailed {
			return g
		}
		if first.open() {
			first = g
		}
	}
	return first
}

// taskCondition looks at the task of a slot that is of the current version: the
// one that fills it, or its successor.
func (r *round) taskCondition(d stack.Dependency, s *service, sl *slot) gate {
	if sl == nil || sl.main == nil {
		return wait("waits for %s %s", d.Service, verb(d.Condition))
	}
	t := sl.main
	if sl.next != nil && (t.Version != s.Version || r.cause(s, t) == lost) {
		t = sl.next
	}
	if t.Version != s.Version {
		return wait("waits for %s %s", d.Service, verb(d.Condition))
	}
	if r.cause(s, t) == lost {
		return wait("waits for %s, whose node %s is down", d.Service, r.nameOf(t.Node))
	}
	if max(t.Wanted, t.Restarts) > t.Status.Restarts {
		return wait("waits for %s %s", d.Service, verb(d.Condition))
	}
	if t.Status.State == stack.TaskFailed {
		return fail("depends on %s, which failed: %s", d.Service, t.Status.Message)
	}
	switch d.Condition {
	case stack.Completed:
		return completed(d, t)
	case stack.Healthy:
		return healthy(d, t)
	}
	if t.Status.State == stack.TaskRunning || t.Status.State == stack.TaskCompleted {
		return gate{}
	}
	return wait("waits for %s %s", d.Service, verb(d.Condition))
}

func completed(d stack.Dependency, t *stack.Task) gate {
	if t.Status.State == stack.TaskCompleted {
		return gate{}
	}
	return wait("waits for %s %s", d.Service, verb(d.Condition))
}

func healthy(d stack.Dependency, t *stack.Task) gate {
	switch st := t.Status; {
	case st.State == stack.TaskCompleted:
		return fail("depends on %s to be healthy, which has ended: exit code 0", d.Service)
	case st.State != stack.TaskRunning:
	case st.Health == "healthy":
		return gate{}
	case st.Health == "unhealthy":
		return fail("depends on %s, which is unhealthy", d.Service)
	case st.Health == "":
		return fail("depends on %s to be healthy, which has no health check", d.Service)
	}
	return wait("waits for %s %s", d.Service, verb(d.Condition))
}

func verb(c stack.Condition) string {
	switch c {
	case stack.Healthy:
		return "to be healthy"
	case stack.Completed:
		return "to complete"
	}
	return "to start"
}
