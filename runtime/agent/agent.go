package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Agent runs the tasks of one node.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	images imager
	starts chan struct{} // slots
	stops  chan struct{} // slots
	notes  chan note

	// The rest belongs to Run's goroutine.
	tasks   map[string]*entry
	byID    map[string]string // container ID to task
	dirty   map[string]bool   // tasks to look at
	report  *reporter
	workers sync.WaitGroup
	done    chan outcome
}

// entry is what the agent knows of one task.
type entry struct {
	assignment stack.Assignment // its Task.Status is the agent's own, newer than the source's
	orphan     bool             // the source has no such task: only its container is left
	container  *runtime.Container
	stale      bool // the container changed since it was looked at
	busy       bool // a worker is at it
	withdrawn  bool // its container gets no new requests
	fails      int  // in a row
	renamed    bool // its container was given its name, or cannot have it for now
	retry      time.Time
}

// note is a message for the status of a task that a worker is at.
type note struct {
	task    string
	message string
}

// New returns an agent that does nothing until Run.
func New(cfg Config) *Agent {
	cfg = cfg.withDefaults()
	return &Agent{
		cfg: cfg, log: cfg.Log, images: imager{images: cfg.Images},
		starts: make(chan struct{}, cfg.Starts), stops: make(chan struct{}, cfg.Stops), notes: make(chan note),
		tasks: map[string]*entry{}, byID: map[string]string{}, dirty: map[string]bool{},
		report: newReporter(cfg.Source), done: make(chan outcome),
	}
}

// relist is how often all containers are looked at, in case an event was lost.
const relist = time.Minute

// Run keeps the node's containers as its tasks ask until ctx ends, and returns
// when the last worker has. Containers keep running.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.drain()
	defer cancel()
	events := a.cfg.Events.Subscribe(ctx, time.Time{}, time.Time{})
	if err := a.list(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(relist)
	defer ticker.Stop()
	var changed <-chan struct{} // nil: the tasks have changed
	for {
		if changed == nil {
			changed = a.cfg.Source.Changed()
			a.assign()
		}
		a.stepAll(ctx)
		retry, stop := a.retryTimer()
		for again := true; again; {
			again = false
			select {
			case <-ctx.Done():
				stop()
				return ctx.Err()
			case <-changed:
				changed = nil
			case e, ok := <-events:
				if !ok {
					events = a.cfg.Events.Subscribe(ctx, time.Time{}, time.Time{})
					a.relist(ctx)
					break
				}
				again = !a.event(e)
			case out := <-a.done:
				a.finish(out)
			case n := <-a.notes:
				a.say(n)
				again = true
			case <-a.report.due:
				a.report.flush(ctx)
				again = true
			case res := <-a.report.done:
				a.reported(ctx, res)
				again = true
			case <-retry:
			case <-ticker.C:
				a.relist(ctx)
			}
		}
		stop()
	}
}

// drain waits for the workers, whose context has ended, and for a report on its way.
func (a *Agent) drain() {
	finished := make(chan struct{})
	go func() { a.workers.Wait(); close(finished) }()
	for {
		select {
		case <-a.done:
		case <-a.notes:
		case <-finished:
			if a.report.busy {
				<-a.report.done
			}
			return
		}
	}
}

func (a *Agent) reported(ctx context.Context, res reported) {
	if res.err != nil && ctx.Err() == nil {
		a.log.Warn("report", "error", res.err, "statuses", len(res.statuses))
	}
	a.report.finish(res)
}

// list finds the containers of this cluster's tasks.
func (a *Agent) list(ctx context.Context) error {
	found, err := a.cfg.Engine.List(ctx, runtime.Filter{All: true, Labels: map[string]string{LabelCluster: a.cfg.Cluster}})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	seen := map[string]bool{}
	for i := range found {
		c := &found[i]
		task := c.Spec.Labels[LabelTask]
		if task == "" {
			continue
		}
		seen[task] = true
		e := a.tasks[task]
		if e == nil {
			e = &entry{orphan: true, assignment: orphan(task)}
			a.tasks[task] = e
		}
		if e.busy {
			e.stale = true
		} else {
			a.observe(e, c)
		}
		a.dirty[task] = true
	}
	for task, e := range a.tasks {
		if !seen[task] && e.container != nil {
			e.stale = true
			a.dirty[task] = true
		}
	}
	return nil
}

func (a *Agent) relist(ctx context.Context) {
	if err := a.list(ctx); err != nil && ctx.Err() == nil {
		a.log.Error("relist", "error", err)
	}
}

// orphan is the assignment of a task that is no more: its container has to go.
func orphan(task string) stack.Assignment {
	return stack.Assignment{Task: stack.Task{ID: task, Desired: stack.DesiredRemove}}
}

// observe takes in what the engine says of a task's container. Whoever shares
// its namespaces is looked at again when the container is another one.
func (a *Agent) observe(e *entry, c *runtime.Container) {
	old := ""
	if e.container != nil {
		old = e.container.ID
	}
	e.container = c
	id := ""
	if c != nil {
		id = c.ID
		a.byID[id] = e.assignment.Task.ID
	}
	if old == id {
		return
	}
	delete(a.byID, old)
	a.freed(e)
	for task, other := range a.tasks {
		if s := other.assignment.Service; s != nil && other.assignment.Task.Stack == e.assignment.Task.Stack && len(s.Shares()) > 0 {
			a.dirty[task], other.retry = true, time.Time{}
		}
	}
}

// assign takes in the tasks that the source has now.
func (a *Agent) assign() {
	seen := map[string]bool{}
	for _, as := range a.cfg.Source.Assignments(a.cfg.Node) {
		id := as.Task.ID
		seen[id] = true
		e := a.tasks[id]
		if e == nil || e.orphan {
			fresh := &entry{assignment: as}
			if e != nil {
				fresh.container, fresh.busy, fresh.stale, fresh.withdrawn = e.container, e.busy, e.stale, e.withdrawn
			}
			a.tasks[id], a.dirty[id] = fresh, true
			a.report.sent[id] = as.Task.Status
			continue
		}
		old := e.assignment.Task
		as.Task.Status = old.Status
		if (old.Draining != 0) != (as.Task.Draining != 0) {
			a.dirty[id] = true
		}
		if old.Desired != as.Task.Desired || old.Restarts != as.Task.Restarts || old.RemoveVolumes != as.Task.RemoveVolumes {
			a.dirty[id], e.fails, e.retry = true, 0, time.Time{}
		}
		e.assignment = as
	}
	for id, e := range a.tasks {
		if seen[id] || e.orphan {
			continue
		}
		e.orphan, e.assignment = true, orphan(id)
		a.dirty[id] = true
	}
}

// event reports whether there is something to look at.
func (a *Agent) event(e runtime.Event) bool {
	if e.Type != "container" {
		return false
	}
	task := a.byID[e.ID]
	if task == "" && e.Attrs[LabelCluster] == a.cfg.Cluster {
		task = e.Attrs[LabelTask]
	}
	entry := a.tasks[task]
	if entry == nil {
		return false
	}
	entry.stale = true
	a.dirty[task] = true
	return !entry.busy
}

// stepAll looks at the tasks of which something changed or whose time has come.
func (a *Agent) stepAll(ctx context.Context) {
	now := time.Now()
	for id, e := range a.tasks {
		if e.fails > 0 && !e.busy && !e.retry.After(now) {
			a.dirty[id] = true
		}
	}
	ids := make([]string, 0, len(a.dirty))
	for id := range a.dirty {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, a.inOrder)
	for _, id := range ids {
		a.step(ctx, id, now)
	}
}

// serve keeps new requests away from a task that is about to be told to go, so
// that none is lost when it goes.
func (a *Agent) serve(ctx context.Context, e *entry) {
	draining := e.assignment.Task.Draining != 0
	if e.container == nil || draining == e.withdrawn {
		return
	}
	if err := a.cfg.Engine.Serve(ctx, e.container.ID, !draining); err != nil {
		a.log.Warn("new requests are not kept away", "task", e.assignment.Task.ID, "draining", draining, "error", err)
	}
	e.withdrawn = draining // a failure is not repeated: the task goes all the same
}

// inOrder lets older tasks and lower numbers start first.
func (a *Agent) inOrder(x, y string) int {
	ex, ey := a.tasks[x], a.tasks[y]
	if ex == nil || ey == nil {
		return 0
	}
	tx, ty := ex.assignment.Task, ey.assignment.Task
	if tx.Created != ty.Created {
		return int(min(max(tx.Created-ty.Created, -1), 1))
	}
	return tx.Slot - ty.Slot
}

// step looks at one task: a worker is started, or its status reported.
func (a *Agent) step(ctx context.Context, id string, now time.Time) {
	e := a.tasks[id]
	if e == nil {
		delete(a.dirty, id)
		return
	}
	if e.busy {
		return // stays dirty until the worker is done
	}
	delete(a.dirty, id)
	if e.stale && e.container != nil {
		c, err := a.inspect(ctx, e.container.ID)
		if err != nil {
			a.failed(e, err)
			return
		}
		a.observe(e, c)
	}
	e.stale = false
	a.serve(ctx, e)
	peers := a.peers(e.assignment)
	rename := a.rename(e)
	act, st := Step(e.assignment.Task, Observed{e.container, unfit(e.assignment, e.container, peers), rename != ""})
	switch {
	case act == None && e.orphan:
		delete(a.tasks, id)
		a.report.forget(id)
	case act == None:
		e.fails, e.retry = 0, time.Time{}
		a.set(e, st)
	case e.retry.After(now):
		// a failure is being waited out
	default:
		if act == Remove { // what it has is worth knowing also when it goes before that was told
			e.assignment.Task.Status.Anonymous = st.Anonymous
		}
		e.busy, e.renamed = true, e.renamed || act == Rename
		a.workers.Add(1)
		go func(j job) {
			defer a.workers.Done()
			a.done <- a.work(ctx, j)
		}(job{e.assignment, e.container, peers, rename})
	}
}

// peers finds the containers on this node of the services that a task shares
// namespaces or volumes with: the one of the same number, else the first.
func (a *Agent) peers(as stack.Assignment) map[string]string {
	if as.Service == nil {
		return nil
	}
	names := as.Service.Shares()
	if len(names) == 0 {
		return nil
	}
	out, best := map[string]string{}, map[string]int{}
	for _, e := range a.tasks {
		t := e.assignment.Task
		if e.orphan || e.container == nil || t.Stack != as.Task.Stack || t.Desired == stack.DesiredRemove || !slices.Contains(names, t.Service) {
			continue
		}
		rank := t.Slot
		if t.Slot == as.Task.Slot {
			rank = 0
		}
		if was, ok := best[t.Service]; !ok || rank < was {
			out[t.Service], best[t.Service] = e.container.ID, rank
		}
	}
	return out
}

// finish takes in what a worker came to.
func (a *Agent) finish(out outcome) {
	e := a.tasks[out.task]
	if e == nil {
		return
	}
	e.busy = false
	a.dirty[out.task] = true
	a.observe(e, out.container)
	e.assignment.Task.Status.Restarts = max(e.assignment.Task.Status.Restarts, out.status.Restarts)
	e.assignment.Task.Status.Followed = out.status.Followed
	if out.err == nil {
		e.fails, e.retry = 0, time.Time{}
		return
	}
	delete(a.dirty, out.task)
	a.failed(e, out.err)
}

// tries is how often a task may fail to start before it is said to have failed.
const tries = 3

// failed notes a failure and when to try again.
func (a *Agent) failed(e *entry, err error) {
	t := e.assignment.Task
	e.fails++
	e.retry = time.Now().Add(backoff(e.fails))
	a.log.Warn("task", "id", t.ID, "stack", t.Stack, "service", t.Service, "slot", t.Slot, "error", err, "retry", time.Until(e.retry).Round(time.Millisecond))
	if e.orphan {
		return
	}
	st := status(t, e.container)
	st.Message = err.Error()
	if t.Desired == stack.DesiredRun && (e.container == nil || e.container.State.Status == runtime.Created) {
		st.State = stack.TaskPreparing
		if !errors.Is(err, errWaiting) && (final(err) || e.fails >= tries) {
			st.State, st.NotStarted = stack.TaskFailed, true
		}
	}
	a.set(e, st)
}

func (a *Agent) set(e *entry, st stack.TaskStatus) {
	e.assignment.Task.Status = st
	if !e.orphan {
		a.report.put(e.assignment.Task.ID, st)
	}
}

// note is called by workers.
func (a *Agent) note(ctx context.Context, t stack.Task, message string) {
	select {
	case a.notes <- note{t.ID, message}:
	case <-ctx.Done():
	}
}

func (a *Agent) say(n note) {
	if e := a.tasks[n.task]; e != nil && !e.orphan {
		st := e.assignment.Task.Status
		st.State, st.Message = stack.TaskPreparing, n.message
		a.report.put(n.task, st)
	}
}

// retryTimer fires when the next failure has been waited out.
func (a *Agent) retryTimer() (<-chan time.Time, func()) {
	var first time.Time
	for _, e := range a.tasks {
		if e.fails > 0 && !e.busy && (first.IsZero() || e.retry.Before(first)) {
			first = e.retry
		}
	}
	if first.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(first))
	return t.C, func() { t.Stop() }
}
