package stack

// UpdateState is how far the update of a service is.
type UpdateState string

// The states of an update, in Swarm's words.
const (
	Updating          UpdateState = "updating"
	UpdateCompleted   UpdateState = "completed"
	UpdatePaused      UpdateState = "paused" // too many tasks of the new version failed; goes on when they recover
	RollbackStarted   UpdateState = "rollback_started"
	RollbackCompleted UpdateState = "rollback_completed"
	RollbackPaused    UpdateState = "rollback_paused"
)

// UpdateStatus is the last update of a service from one version to another.
// The slices are never changed in place.
type UpdateStatus struct {
	State     UpdateState `json:"state"`
	From      uint64      `json:"from,omitempty"`      // version that a rollback goes back to: the last one that was not itself given up
	To        uint64      `json:"to"`                  // version that was asked for; a rollback leaves it
	Started   int64       `json:"started"`             // Unix nanoseconds
	Completed int64       `json:"completed,omitempty"` // also of a rollback; Unix nanoseconds
	Message   string      `json:"message,omitempty"`   // why it paused or went back: the failing task's reason
	Warning   string      `json:"warning,omitempty"`   // a rule that could not be kept, and why
	Failed    []string    `json:"failed,omitempty"`    // slots (a number, or a node) whose new task failed while it was watched and has not recovered, sorted
}

// Active reports whether tasks are being replaced, or would be but for a pause.
func (u *UpdateStatus) Active() bool {
	return u != nil && u.State != UpdateCompleted && u.State != RollbackCompleted
}

// Backwards reports whether the update has been given up for its old version.
func (u *UpdateStatus) Backwards() bool {
	return u != nil && (u.State == RollbackStarted || u.State == RollbackPaused || u.State == RollbackCompleted)
}
