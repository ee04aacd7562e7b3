package state

import (
	"cmp"
	"strings"

	"github.com/dhow-project/dhow/stack/plan"
)

// KeepRevisions is how many revisions of a stack are kept.
const KeepRevisions = 10

// Revision is what was applied to a stack at one time.
type Revision struct {
	Stack   string      `json:"stack"`
	Number  uint64      `json:"number"`         // from 1, without gaps
	Time    int64       `json:"time"`           // Unix nanoseconds
	Node    string      `json:"node,omitempty"` // host name of the node that was asked
	Back    uint64      `json:"back,omitempty"` // revision that this one brought back; 0: none
	Changes []plan.Step `json:"changes,omitempty"`
	Files   []string    `json:"files,omitempty"` // sums of the secrets and configs of Definition
	// Definition is the whole stack as it was applied, as compressed JSON,
	// without the content of secrets and configs.
	Definition []byte  `json:"definition"`
	Outcome    Outcome `json:"outcome,omitempty"` // "": it is still under way
	Message    string  `json:"message,omitempty"` // why Outcome is not better
	Ended      int64   `json:"ended,omitempty"`   // Unix nanoseconds; 0: it is still under way
}

// Outcome is how the applying of a revision has ended.
type Outcome string

// The outcomes.
const (
	Done       Outcome = "completed"   // all ran as it said
	RolledBack Outcome = "rolled back" // services of it went back by themselves, as their rules say
	Overtaken  Outcome = "superseded"  // the next revision came first
)

// OutcomeChange ends a revision. Passed over when it is gone or has ended.
type OutcomeChange struct {
	Stack   string  `json:"stack"`
	Number  uint64  `json:"number"`
	Outcome Outcome `json:"outcome"`
	Message string  `json:"message,omitempty"`
}

// revisionKey sorts revisions.
type revisionKey struct {
	stack  string
	number uint64
}

func newRevisions() tree[revisionKey, Revision] {
	return tree[revisionKey, Revision]{order: &order[revisionKey, Revision]{
		key:    func(r *Revision) revisionKey { return revisionKey{r.Stack, r.Number} },
		prefix: func(k revisionKey) uint64 { return prefixOf(k.stack) },
		compare: func(k revisionKey, r *Revision) int {
			return cmp.Or(strings.Compare(k.stack, r.Stack), cmp.Compare(k.number, r.Number))
		},
	}}
}

func (t *tables) putRevision(e *edit, r *Revision) {
	t.revisions.put(e, r)
	if r.Outcome == "" {
		t.open.put(e, r)
	} else {
		t.open.remove(e, revisionKey{r.Stack, r.Number})
	}
}

func (t *tables) removeRevision(e *edit, r *Revision) {
	t.revisions.remove(e, revisionKey{r.Stack, r.Number})
	t.open.remove(e, revisionKey{r.Stack, r.Number})
}

// revisionsOf are the revisions of a stack, the oldest first.
func (t *tables) revisionsOf(stackName string) (out []*Revision) {
	t.revisions.from(revisionKey{stackName, 0}, func(r *Revision) bool {
		if r.Stack != stackName {
			return false
		}
		out = append(out, r)
		return true
	})
	return out
}

// revision stores a revision and forgets those that are too old for it.
func (t *tx) revision(r *Revision) {
	t.touch(Touched{Table: TableRevision, Stack: r.Stack})
	t.putRevision(t.edit, r)
	all := t.revisionsOf(r.Stack)
	for _, old := range all[:max(0, len(all)-KeepRevisions)] {
		t.removeRevision(t.edit, old)
	}
}

func (t *tx) outcome(c *OutcomeChange) {
	old := t.open.get(revisionKey{c.Stack, c.Number})
	if old == nil {
		return
	}
	r := *old
	r.Outcome, r.Message, r.Ended = c.Outcome, c.Message, t.time
	t.touch(Touched{Table: TableRevision, Stack: r.Stack})
	t.putRevision(t.edit, &r)
}

func (t *tx) forgetRevisions(stackName string) {
	for _, r := range t.revisionsOf(stackName) {
		t.removeRevision(t.edit, r)
	}
}

// Revisions returns the revisions of a stack that are kept, the oldest first.
func (s *Snapshot) Revisions(stackName string) []*Revision { return s.tables.revisionsOf(stackName) }

// Revision returns one revision of a stack or nil.
func (s *Snapshot) Revision(stackName string, number uint64) *Revision {
	return s.tables.revisions.get(revisionKey{stackName, number})
}

// LastRevision returns the newest revision of a stack or nil.
func (s *Snapshot) LastRevision(stackName string) (last *Revision) {
	for _, r := range s.tables.revisionsOf(stackName) {
		last = r
	}
	return last
}

// OpenRevisions returns the revisions of all stacks that have not ended.
func (s *Snapshot) OpenRevisions() []*Revision { return s.tables.open.list() }
