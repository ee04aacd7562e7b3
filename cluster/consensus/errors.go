package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// ErrNotLeader is wrapped when a command was given to a manager that does not
// lead. The command was not applied and will not be: it may be given to the
// leader. The error is a *NotLeaderError.
var ErrNotLeader = errors.New("not the leader")

// ErrOutcomeUnknown is wrapped when a command may or may not be applied, now or
// later. It must not be given again before a look at the state.
var ErrOutcomeUnknown = errors.New("whether it was stored is not known")

// NotLeaderError says who leads.
type NotLeaderError struct {
	Leader string // node ID; "" when it is not known, or no majority has elected one yet
	Full   bool   // this manager cannot write its log
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" && e.Full {
		return "no manager leads, and this one's log cannot be written: free space on its disk"
	}
	if e.Leader == "" {
		return "this manager does not lead, and who does is not known"
	}
	return fmt.Sprintf("this manager does not lead, %s does", e.Leader)
}

// Is makes it an ErrNotLeader.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

func (l *Log) notLeader() error {
	leader := l.Leader()
	if leader == l.cfg.ID { // it is about to hand over
		leader = ""
	}
	return &NotLeaderError{Leader: leader, Full: !l.files.guard.fit()}
}

// outcome says what raft's answer to a command means for who gave it.
func (l *Log) outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrRaftShutdown):
		return l.notLeader()
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return errors.New("not stored: this manager's disk is too slow")
	case errors.Is(err, raft.ErrAbortedByRestore):
		return errors.New("not stored: a snapshot was restored meanwhile")
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}
