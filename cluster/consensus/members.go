package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// MaxVoters is the largest number of voting managers: each command waits for a majority of them.
const MaxVoters = 7

// Member is one manager of the cluster.
type Member struct {
	ID     string
	Voter  bool
	Leader bool

	// Known to the leader only, of the others.
	Match uint64    // its log equals the leader's up to here
	Heard time.Time // of its last answer; zero: none in this term
}

// Members returns the managers as this one knows them, by ID.
func (l *Log) Members() []Member {
	leader, term := l.Leader(), l.raft.CurrentTerm()
	var out []Member
	for _, s := range l.servers() {
		m := Member{ID: string(s.ID), Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == leader}
		if l.Leading() {
			if m.ID == l.cfg.ID {
				m.Match, m.Heard = l.raft.LastIndex(), time.Now()
			} else if l.net != nil {
				c := l.net.contact(s.ID, term)
				m.Match, m.Heard = c.match, c.heard
			}
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (l *Log) servers() []raft.Server { return l.raft.GetConfiguration().Configuration().Servers }

// alone reports whether this node is the only voter.
func (l *Log) alone() bool {
	voters, self := 0, false
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || string(s.ID) == l.cfg.ID
		}
	}
	return self && voters == 1
}

func (l *Log) member(id string) (Member, bool) {
	for _, m := range l.Members() {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// AddNonvoter makes a node receive the log without a vote. Safe to repeat; a
// voter stays one.
func (l *Log) AddNonvoter(ctx context.Context, id string) error {
	if m, ok := l.member(id); ok && l.Leading() {
		_ = m // whatever it is, it receives the log
		return nil
	}
	err := l.change(ctx, func(timeout time.Duration) raft.IndexFuture {
		return l.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, timeout)
	})
	return l.changeError("add manager "+id, err)
}

// AddVoter gives a node a vote: it receives the log first, and the vote when it
// has all of it and answers, so that it never makes a majority harder to reach.
// When ctx ends before that, the node stays without a vote. Safe to repeat.
func (l *Log) AddVoter(ctx context.Context, id string) error {
	if err := l.AddNonvoter(ctx, id); err != nil {
		return err
	}
	if err := l.caughtUp(ctx, id); err != nil {
		return fmt.Errorf("add manager %s: %w", id, err)
	}
	if m, _ := l.member(id); m.Voter {
		return nil
	}
	if n := l.voters(); n >= MaxVoters {
		return fmt.Errorf("add manager %s: there are %d managers already, more only slow each other down; demote one first", id, n)
	}
	err := l.change(ctx, func(timeout time.Duration) raft.IndexFuture {
		return l.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, timeout)
	})
	return l.changeError("add manager "+id, err)
}

// change does one change of who takes part.
func (l *Log) change(ctx context.Context, start func(timeout time.Duration) raft.IndexFuture) error {
	done, err := l.holdMembers(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = wait(ctx, l, start)
	return err
}

// holdMembers waits for its turn to change who takes part, or to keep others
// from it until done is called.
func (l *Log) holdMembers(ctx context.Context) (done func(), err error) {
	select {
	case l.members <- struct{}{}:
		return func() { <-l.members }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, errStopping
	}
}

func (l *Log) voters() int {
	n := 0
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			n++
		}
	}
	return n
}

// caughtUp waits until a node has the log up to where it ended at the call, and answers.
func (l *Log) caughtUp(ctx context.Context, id string) error {
	goal := l.raft.LastIndex()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		m, ok := l.member(id)
		switch {
		case !l.Leading():
			return l.notLeader()
		case !ok:
			return errors.New("it was removed meanwhile")
		case m.Voter || m.Match >= goal && reachable(m):
			return nil
		}
		select {
		case <-tick.C:
		case <-l.closed:
			return l.notLeader()
		case <-ctx.Done():
			if m.Heard.IsZero() {
				return fmt.Errorf("it does not answer: %w", ctx.Err())
			}
			return fmt.Errorf("it has %d of %d log entries: %w", m.Match, goal, ctx.Err())
		}
	}
}

// reachable reports whether the leader has heard of a member within the time
// after which it would give up its own lead.
func reachable(m Member) bool { return time.Since(m.Heard) < 2*lease }

// Remove takes a node out of the managers. It refuses when those that remain
// and answer would be no majority, unless it is forced. The leader itself hands
// over first and returns ErrNotLeader: give the command to the one it names. Safe
// to repeat.
func (l *Log) Remove(ctx context.Context, id string, force bool) error {
	if !l.Leading() {
		return fmt.Errorf("remove manager %s: %w", id, l.notLeader())
	}
	m, ok := l.member(id)
	if !ok {
		return nil
	}
	if m.Voter {
		if err := l.restIsMajority(ctx, id, force); err != nil {
			return fmt.Errorf("remove manager %s: %w", id, err)
		}
	}
	if id == l.cfg.ID {
		if err := l.Transfer(ctx); err != nil {
			return fmt.Errorf("remove manager %s: %w", id, err)
		}
		return fmt.Errorf("remove manager %s: %w", id, l.notLeader())
	}
	err := l.change(ctx, func(timeout time.Duration) raft.IndexFuture {
		return l.raft.RemoveServer(raft.ServerID(id), 0, timeout)
	})
	return l.changeError("remove manager "+id, err)
}

// restIsMajority refuses the removal of a voter without which those that answer
// would be no majority. A new leader gives the others time to answer it.
func (l *Log) restIsMajority(ctx context.Context, id string, force bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(lease)
	for {
		rest, answer := 0, 0
		for _, o := range l.Members() {
			if !o.Voter || o.ID == id {
				continue
			}
			rest++
			if reachable(o) {
				answer++
			}
		}
		switch {
		case rest == 0:
			return errors.New("it is the only manager; promote another node first")
		case answer > rest/2 || force:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-patience:
			return fmt.Errorf("of the %d managers that remain only %d answer, no majority: the cluster would stand still; remove those that do not answer first, or bring them back", rest, answer)
		}
	}
}

func (l *Log) changeError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, l.outcome(err))
}

// Transfer hands the leadership to another voter, the one that is the furthest
// and answers, and returns when it leads. Without one it is an error.
func (l *Log) Transfer(ctx context.Context) error {
	if !l.Leading() {
		return fmt.Errorf("transfer leadership: %w", l.notLeader())
	}
	heirs, err := l.heirs(ctx)
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	var errs []error
	for _, m := range heirs {
		_, err := wait(ctx, l, func(time.Duration) raft.Future {
			return l.raft.LeadershipTransferToServer(raft.ServerID(m.ID), raft.ServerAddress(m.ID))
		})
		if err == nil || !l.Leading() {
			return l.waitSuccessor(ctx)
		}
		errs = append(errs, fmt.Errorf("to %s: %w", m.ID, err))
	}
	return fmt.Errorf("transfer leadership: %w", errors.Join(errs...))
}

// heirs returns the other voters that answer, the furthest first. A new leader
// gives them time to answer it.
func (l *Log) heirs(ctx context.Context) ([]Member, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(lease)
	for !l.alone() {
		out := slices.DeleteFunc(l.Members(), func(m Member) bool { return !m.Voter || m.ID == l.cfg.ID || !reachable(m) })
		if len(out) > 0 {
			slices.SortStableFunc(out, func(a, b Member) int { return cmp.Compare(b.Match, a.Match) })
			return out, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience:
			return nil, errors.New("no other manager answers")
		}
	}
	return nil, errors.New("this is the only manager")
}

// waitSuccessor waits until some leader is known.
func (l *Log) waitSuccessor(ctx context.Context) error {
	for {
		changed := l.LeaderChanged()
		if l.Leader() != "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("transfer leadership: no new leader is known yet: %w", ctx.Err())
		}
	}
}
