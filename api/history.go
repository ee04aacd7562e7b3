package api

import (
	"time"

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

// RollbackRequest is the body of POST /dhow/v1/stacks/{name}/rollback. The
// answer is an ApplyResponse.
type RollbackRequest struct {
	To     uint64         `json:"to"` // revision
	DryRun bool           `json:"dryRun,omitempty"`
	Grace  *time.Duration `json:"grace,omitempty"` // nanoseconds between stop signal and kill; absent: the services' own
	Node   string         `json:"node,omitempty"`  // as of ApplyRequest
}
