package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Revision is what was applied to a stack at one time, and what became of it.
type Revision struct {
	Number  uint64      `json:"number"`         // from 1
	Time    int64       `json:"time"`           // Unix nanoseconds
	Node    string      `json:"node,omitempty"` // host name of the node that was asked
	Back    uint64      `json:"back,omitempty"` // revision that this one brought back; 0: none
	Changes []plan.Step `json:"changes"`
	Result  string      `json:"result"`            // completed, rolled back, superseded; while it is under way: in progress, paused, rolling back
	Message string      `json:"message,omitempty"` // why Result is not better
	Ended   int64       `json:"ended,omitempty"`   // Unix nanoseconds; 0: it is under way
	Current bool        `json:"current,omitempty"` // it is the last one
}

// Results of revisions that are under way.
const (
	inProgress  = "in progress"
	paused      = "paused"
	rollingBack = "rolling back"
)

// History returns the revisions of a stack, the newest first.
func (m *Manager) History(name string) ([]Revision, error) {
	snap := m.store.Snapshot()
	s := snap.Stack(name)
	if s == nil {
		return nil, fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	}
	revs := snap.Revisions(name)
	slices.Reverse(revs)
	out := make([]Revision, 0, len(revs))
	for i, r := range revs {
		v := Revision{Number: r.Number, Time: r.Time, Node: r.Node, Back: r.Back, Changes: r.Changes,
			Result: string(r.Outcome), Message: r.Message, Ended: r.Ended, Current: i == 0}
		if r.Outcome == "" {
			v.Result, v.Message, _ = judgeRevision(snap, s, r)
		}
		out = append(out, v)
	}
	return out, nil
}

// newRevision is the change that puts what p applies into the stack's history,
// and the one that ends the revision before it.
func newRevision(snap *state.Snapshot, p *plan.Plan, d *Deployment, now int64) ([]state.Change, error) {
	if !slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Action != plan.Start && s.Action != plan.Restart }) {
		return nil, nil // it is what it was
	}
	r := &state.Revision{Stack: p.Stack.Name, Number: 1, Time: now, Node: d.Node, Back: d.back, Changes: p.Steps}
	var err error
	if r.Definition, err = pack(withoutData(p.Stack)); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	for _, f := range filesOf(p.Stack) {
		r.Files = append(r.Files, f.spec.Sum)
	}
	last := snap.LastRevision(r.Stack)
	if last == nil {
		return []state.Change{{Revision: r}}, nil
	}
	r.Number = last.Number + 1
	if last.Outcome != "" {
		return []state.Change{{Revision: r}}, nil
	}
	end := &state.OutcomeChange{Stack: last.Stack, Number: last.Number, Outcome: state.Overtaken}
	if s := snap.Stack(r.Stack); s != nil {
		result, message, over := judgeRevision(snap, s, last)
		end.Message = message
		if over {
			end.Outcome = state.Outcome(result)
		}
	}
	return []state.Change{{Outcome: end}, {Revision: r}}, nil
}

// pack is the inverse of unpack: a stack as compressed JSON.
func pack(s stack.Stack) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(data []byte) (s stack.Stack, err error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return s, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}

// judgeRevision tells how the last revision of a stack is getting on, and
// whether that is how it ends.
func judgeRevision(snap *state.Snapshot, s *state.Stack, r *state.Revision) (result, message string, over bool) {
	var back, waits []string
	turning, held := false, false
	for _, step := range r.Changes {
		if step.Kind != plan.Service || step.Action == plan.Remove {
			continue
		}
		sv := snap.Service(s.Name, step.Name)
		if sv == nil || sv.Removing || sv.Desired != stack.DesiredRun {
			continue // a person wants something else by now
		}
		u := sv.Update
		if u != nil && u.Started < r.Time {
			u = nil // of a revision before
		}
		st := serviceStatus(snap, sv)
		switch {
		case u.Backwards():
			back = append(back, because(sv.Name, u.Message))
			turning = turning || u.State != stack.RollbackCompleted
		case u != nil && u.State == stack.UpdatePaused:
			held = true
			waits = append(waits, because(sv.Name, u.Message))
		case !st.Ready && st.Message != "":
			waits = append(waits, because(sv.Name, st.Message))
		case !st.Ready:
			waits = append(waits, fmt.Sprintf("%s: %d of %d ready", sv.Name, st.Healthy+st.Completed, st.Wanted))
		}
	}
	switch {
	case turning:
		return rollingBack, strings.Join(back, "; "), false
	case held:
		return paused, strings.Join(waits, "; "), false
	case len(waits) > 0:
		return inProgress, strings.Join(waits, "; "), false
	case len(back) > 0:
		return string(state.RolledBack), strings.Join(back, "; "), true
	}
	return string(state.Done), "", true
}

func because(service, why string) string {
	if why == "" {
		return service
	}
	return service + ": " + why
}

// historyPause is the least time between two looks at revisions under way, and
// historyShare how much longer than a look a pause is: stacks can be large.
const (
	historyPause = 250 * time.Millisecond
	historyShare = 20
)

// followHistory ends revisions that have come about, or were turned back.
func (m *Manager) followHistory(ctx context.Context) error {
	for {
		changed := m.store.Changed()
		began := time.Now()
		if err := m.endRevisions(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("history: %w", err)
		}
		pause := max(historyPause, historyShare*time.Since(began))
		if !wait(ctx, changed, time.Time{}) || !wait(ctx, nil, time.Now().Add(pause)) {
			return ctx.Err()
		}
	}
}

func (m *Manager) endRevisions(ctx context.Context) error {
	snap := m.store.Snapshot()
	var changes []state.Change
	for _, r := range snap.OpenRevisions() {
		s := snap.Stack(r.Stack)
		if s == nil || s.Removing {
			continue
		}
		if result, message, over := judgeRevision(snap, s, r); over {
			changes = append(changes, state.Change{Outcome: &state.OutcomeChange{
				Stack: r.Stack, Number: r.Number, Outcome: state.Outcome(result), Message: message}})
		}
	}
	_, err := m.propose(ctx, changes)
	return err
}
