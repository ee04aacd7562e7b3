package sim

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Agent is a node: it does what it is told after a while, and reports it.
type Agent struct {
	node       string
	containers map[string]*container // by task
	cut        bool                  // neither hears nor is heard; its containers run on
	dead       bool                  // as cut, and nothing runs
	leaseEnd   time.Time
}

// container is one task on a node.
type container struct {
	slot   slot
	state  stack.TaskState
	follow stack.Desired
	done   uint64 // Task.Restarts
	fails  bool   // ends with an error as soon as it is started
	job    bool   // ends well as soon as it is started
	asked  bool   // an event is under way
	unsaid bool   // its last event could not be reported
}

// slot is what at most one container is to run for.
type slot struct {
	stack, service string
	number         int
	pin            string
}

// How long things take on a node.
const (
	startTime = 300 * time.Millisecond
	stopTime  = 200 * time.Millisecond
	tick      = 50 * time.Millisecond // events are on ticks: agents that speak at once share commands
)

// see takes in what is wanted of a task; nil: it is gone.
func (a *Agent) see(w *World, id string, t *stack.Task) {
	c := a.containers[id]
	if t == nil || t.Node != a.node {
		if c != nil {
			delete(a.containers, id) // the container of a task that nobody knows goes at once
		}
		return
	}
	if c == nil {
		c = &container{slot: slot{t.Stack, t.Service, t.Slot, t.Pin}, state: t.Status.State}
		c.fails, c.job = w.behaviour(t)
		a.containers[id] = c
	}
	if !c.behind(t) && !c.unsaid || c.asked && t.Desired == c.follow {
		return
	}
	c.follow, c.done, c.asked = t.Desired, t.Restarts, true
	after := startTime + time.Duration(w.rng.IntN(8))*tick
	if t.Desired == stack.DesiredRemove || t.Desired == stack.DesiredStop {
		after = stopTime
	}
	w.events.add(event{at: w.Now.Add(after).Truncate(tick).Add(tick), node: a.node, task: id})
}

// behind reports whether the container is not as wanted.
func (c *container) behind(t *stack.Task) bool {
	switch {
	case t.Desired == stack.DesiredRemove:
		return c.state != stack.TaskRemoved
	case t.Desired != c.follow || t.Restarts > c.done:
		return true
	}
	return c.state < stack.TaskRunning
}

// act brings about what was asked for; false: there is nothing to report.
func (a *Agent) act(e event) bool {
	c := a.containers[e.task]
	if c == nil || a.dead || !c.asked {
		return false
	}
	c.asked = false
	switch {
	case c.follow == stack.DesiredRemove:
		c.state = stack.TaskRemoved
	case c.follow == stack.DesiredStop || c.follow == stack.DesiredCreate:
		c.state = stack.TaskReady
	case c.fails:
		c.state = stack.TaskFailed
	case c.job:
		c.state = stack.TaskCompleted
	default:
		c.state = stack.TaskRunning
	}
	return true
}

func (c *container) status(now time.Time) stack.TaskStatus {
	st := stack.TaskStatus{State: c.state, Time: now, Followed: c.follow, Restarts: c.done, ContainerID: "c0ffee"}
	if c.fails && c.state == stack.TaskFailed {
		st.Message, st.ExitCode = "exit code 1", 1
	}
	return st
}

// behaviour of a task's container, by its spec: its command is "fail" or "job" or it runs on.
func (w *World) behaviour(t *stack.Task) (fails, job bool) {
	sv := w.Store.Snapshot().Service(t.Stack, t.Service)
	if sv == nil {
		return false, false
	}
	spec, _ := sv.SpecOf(t.Version)
	if spec == nil || len(spec.Container.Command) == 0 {
		return false, false
	}
	return spec.Container.Command[0] == "fail", spec.Container.Command[0] == "job"
}

// event is something that a node does to a task's container.
type event struct {
	at         time.Time
	node, task string
}

// calendar holds events by their moment, in the order in which they were added.
type calendar struct {
	moments moments
	at      map[time.Time][]event
}

func newCalendar() calendar { return calendar{at: map[time.Time][]event{}} }

func (c *calendar) add(e event) {
	if _, ok := c.at[e.at]; !ok {
		heap.Push(&c.moments, e.at)
	}
	c.at[e.at] = append(c.at[e.at], e)
}

// first returns the next moment; zero: nothing is to happen.
func (c *calendar) first() time.Time {
	if len(c.moments) == 0 {
		return time.Time{}
	}
	return c.moments[0]
}

// take removes and returns all events up to now.
func (c *calendar) take(now time.Time) (out []event) {
	for len(c.moments) > 0 && !c.moments[0].After(now) {
		at := heap.Pop(&c.moments).(time.Time)
		out = append(out, c.at[at]...)
		delete(c.at, at)
	}
	return out
}

type moments []time.Time

func (m moments) Len() int           { return len(m) }
func (m moments) Less(i, j int) bool { return m[i].Before(m[j]) }
func (m moments) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any)        { *m = append(*m, x.(time.Time)) }
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
