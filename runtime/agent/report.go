package agent

import (
	"context"
	"maps"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// reporter collects statuses and sends them together: while one report is on
// its way, the next ones gather. Used by the agent's goroutine only.
type reporter struct {
	source  Source
	pending map[string]stack.TaskStatus // by task
	sent    map[string]stack.TaskStatus // last that the source has or is being sent
	busy    bool                        // a report is on its way
	due     <-chan time.Time            // when pending is to be sent; nil: nothing is
	done    chan reported
	fails   int
}

type reported struct {
	statuses map[string]stack.TaskStatus
	err      error
}

// gather is how long a status waits for others.
const gather = 2 * time.Millisecond

func newReporter(s Source) *reporter {
	return &reporter{source: s, pending: map[string]stack.TaskStatus{}, sent: map[string]stack.TaskStatus{}, done: make(chan reported, 1)}
}

// put takes a status unless it says nothing new.
func (r *reporter) put(task string, st stack.TaskStatus) {
	if old, ok := r.sent[task]; ok && same(old, st) {
		return
	}
	st.Time = time.Now().UTC()
	r.sent[task], r.pending[task] = st, st
	if r.due == nil && !r.busy {
		r.due = time.After(gather)
	}
}

// forget drops a task that is no more.
func (r *reporter) forget(task string) {
	delete(r.sent, task)
	delete(r.pending, task)
}

// flush sends what has gathered; the answer comes on done.
func (r *reporter) flush(ctx context.Context) {
	r.due = nil
	if r.busy || len(r.pending) == 0 {
		return
	}
	batch := r.pending
	r.pending, r.busy = map[string]stack.TaskStatus{}, true
	reports := make([]stack.TaskReport, 0, len(batch))
	for task, st := range batch {
		reports = append(reports, stack.TaskReport{Task: task, Status: st})
	}
	go func() { r.done <- reported{batch, r.source.Report(ctx, reports)} }()
}

// finish takes the answer to a report; what could not be sent is sent again,
// unless there is something newer to say.
func (r *reporter) finish(res reported) {
	r.busy = false
	if res.err == nil {
		r.fails = 0
		if len(r.pending) > 0 {
			r.due = time.After(0)
		}
		return
	}
	maps.Copy(res.statuses, r.pending)
	r.pending = res.statuses
	r.fails++
	r.due = time.After(backoff(r.fails))
}

func same(a, b stack.TaskStatus) bool {
	return a.State == b.State && a.Message == b.Message && a.ContainerID == b.ContainerID && a.Health == b.Health &&
		a.ExitCode == b.ExitCode && a.Paused == b.Paused && a.RestartCount == b.RestartCount && a.Restarts == b.Restarts &&
		a.ImageID == b.ImageID && a.Followed == b.Followed && maps.Equal(a.Anonymous, b.Anonymous)
}
