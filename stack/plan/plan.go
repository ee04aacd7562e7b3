package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Snapshot is what exists of one stack.
type Snapshot struct {
	Stack *stack.Stack // as last applied (definitions, not resolved subnets); nil when there is none
	Tasks []stack.Task // of this stack, any state
	// Real names of all networks and volumes, for external ones; nil: existence is not checked.
	Networks map[string]bool
	Volumes  map[string]bool
}

// Options narrow or widen what an apply does.
type Options struct {
	ForceRecreate bool           `json:"forceRecreate,omitempty"` // recreate all chosen services
	NoRecreate    bool           `json:"noRecreate,omitempty"`    // leave existing services as they are
	RemoveOrphans bool           `json:"removeOrphans,omitempty"` // remove services that the file no longer has
	Services      []string       `json:"services,omitempty"`      // these and what they need; empty: all
	NoDeps        bool           `json:"noDeps,omitempty"`        // Services without what they need
	Scale         map[string]int `json:"scale,omitempty"`         // replicas by service, over the file's
	NoStart       bool           `json:"noStart,omitempty"`       // make containers, start none; what runs unchanged goes on
	Grace         *time.Duration `json:"grace,omitempty"`         // between stop signal and kill of what is replaced, over the specs'
}

// Action is what a step does.
type Action string

// The actions.
const (
	Create   Action = "create"
	Recreate Action = "recreate" // service: new spec version, its tasks are replaced; network: removed and made again
	Update   Action = "update"   // stored definition changes, nothing that runs is touched (for a service: deploy, depends_on, ...)
	Scale    Action = "scale"    // tasks are added or removed
	Start    Action = "start"    // stopped, paused or failed tasks are started again
	Restart  Action = "restart"  // tasks are restarted as they are
	Remove   Action = "remove"
)

// Kind is what a step is about.
type Kind string

// The kinds.
const (
	Service Kind = "service"
	Network Kind = "network"
	Volume  Kind = "volume"
	Secret  Kind = "secret"
	Config  Kind = "config"
)

// Step is one change. Steps are in the order in which they have to happen:
// what is needed before what needs it, removals of users before what they use.
type Step struct {
	Action Action `json:"action,omitempty"` // empty in notes
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`           // key in the stack file
	Cause  string `json:"cause"`          // "image redis:7 -> redis:8; environment LOG_LEVEL changed"
	From   int    `json:"from,omitempty"` // replicas before (Scale, and Recreate when they change too)
	To     int    `json:"to,omitempty"`   // replicas after (Scale, Create and Recreate)
}

// String is one line: "service web: recreate: image redis:7 -> redis:8".
func (s Step) String() string {
	parts := []string{string(s.Kind) + " " + s.Name}
	if s.Action != "" {
		parts = append(parts, string(s.Action))
	}
	if s.Cause != "" {
		parts = append(parts, s.Cause)
	}
	return strings.Join(parts, ": ")
}

// Plan is the result of Diff.
type Plan struct {
	Steps   []Step      `json:"steps"`
	Notes   []Step      `json:"notes,omitempty"`   // what is left as it is although the file says otherwise: orphans, kept volumes, --no-recreate
	Refused []Step      `json:"refused,omitempty"` // what would have to change but must not; then nothing may be applied
	Stack   stack.Stack `json:"-"`                 // the stack to store, with specs of services that were not chosen, and orphans
}

// Empty reports whether there is nothing to do. Notes do not count.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Refused) == 0 }

// Err is nil when the plan may be applied; otherwise it joins what was refused.
func (p *Plan) Err() error {
	errs := make([]error, 0, len(p.Refused))
	for _, s := range p.Refused {
		errs = append(errs, fmt.Errorf("%s", s))
	}
	return errors.Join(errs...)
}

// Step returns the step of that kind and name with one of the actions (any when none is given).
func (p *Plan) Step(kind Kind, name string, actions ...Action) (Step, bool) {
	for _, s := range p.Steps {
		if s.Kind != kind || s.Name != name {
			continue
		}
		if len(actions) == 0 {
			return s, true
		}
		for _, a := range actions {
			if s.Action == a {
				return s, true
			}
		}
	}
	return Step{}, false
}

// String is the plan for people: one line per step, then notes and refusals.
// The plan with nothing to say is "no changes".
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	if len(p.Steps) == 0 && len(p.Refused) == 0 {
		fmt.Fprintln(&b, "no changes")
	}
	for _, s := range p.Notes {
		fmt.Fprintln(&b, "note:", s)
	}
	for _, s := range p.Refused {
		fmt.Fprintln(&b, "refused:", s)
	}
	return b.String()
}
