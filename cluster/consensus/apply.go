package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// Apply stores a command and returns its index when it is durable on a majority
// and applied here. Errors tell apart: ErrNotLeader, it was not applied;
// ErrOutcomeUnknown, nobody knows yet, also when ctx ends first; any other, the
// command itself was refused.
func (l *Log) Apply(ctx context.Context, cmd state.Command) (uint64, error) {
	data, err := cmd.Encode()
	if err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("store command: %w", l.outcome(err))
	}
	done := ask(ctx, func(timeout time.Duration) raft.ApplyFuture { return l.raft.Apply(data, timeout) })
	f, err := await(ctx, l, done)
	if err != nil {
		if ctx.Err() != nil {
			l.leaveFlying(done)
		}
		return 0, fmt.Errorf("store command: %w", l.outcome(err))
	}
	if err, ok := f.Response().(error); ok {
		return 0, fmt.Errorf("apply command: %w", err)
	}
	return f.Index(), nil
}

// leaveFlying notes a command that nobody waits for any more: it may still be applied.
func (l *Log) leaveFlying(done <-chan raft.ApplyFuture) {
	over := make(chan struct{})
	go func() {
		<-done // it has an end in any case: raft says so when it loses the lead or stops
		close(over)
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying = append(l.flying, over)
}

// landed waits until it is known of every command that was left flying whether
// it is applied.
func (l *Log) landed(ctx context.Context) error {
	for {
		l.mu.Lock()
		if len(l.flying) == 0 {
			l.mu.Unlock()
			return nil
		}
		over := l.flying[0]
		l.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closed:
			return errStopping
		}
		l.mu.Lock()
		l.flying = slices.DeleteFunc(l.flying, func(c chan struct{}) bool { return c == over })
		l.mu.Unlock()
	}
}

// Settle returns when this manager leads, as far as it knows, and its store has
// whatever a command may be built on: all that the leaders before it have
// committed, and what it was given itself and nobody waited for to the end. An
// ErrNotLeader says whom to ask instead.
func (l *Log) Settle(ctx context.Context) error {
	if err := l.landed(ctx); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	for {
		if !l.Leading() {
			return fmt.Errorf("settle: %w", l.notLeader())
		}
		term := l.raft.CurrentTerm()
		if l.settled.Load() == term {
			return nil
		}
		if err := l.settle(ctx, term); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
	}
}

var errStopping = errors.New("this manager is closing")

// wait starts what raft is asked for and waits until it is done, ctx ends or
// the log is closed, as raft's own waiting ends for neither.
func wait[F raft.Future](ctx context.Context, l *Log, start func(timeout time.Duration) F) (F, error) {
	if err := ctx.Err(); err != nil {
		var none F
		return none, err
	}
	return await(ctx, l, ask(ctx, start))
}

// ask starts what raft is asked for; it is in the channel when it is done, which
// is closed then.
func ask[F raft.Future](ctx context.Context, start func(timeout time.Duration) F) <-chan F {
	timeout := time.Duration(0)
	if at, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(at), 1)
	}
	done := make(chan F, 1)
	go func() {
		f := start(timeout)
		_ = f.Error() // kept in f
		done <- f
		close(done)
	}()
	return done
}

func await[F raft.Future](ctx context.Context, l *Log, done <-chan F) (F, error) {
	var none F
	select {
	case f := <-done:
		return f, f.Error()
	case <-ctx.Done():
		return none, ctx.Err()
	case <-l.closed:
		return none, errStopping
	}
}

// Verify returns when this manager leads and its store holds all that any
// manager had acknowledged before the call: what is read afterwards is no older
// than that. An ErrNotLeader says whom to ask instead.
func (l *Log) Verify(ctx context.Context) error {
	since := time.Now()
	for {
		if !l.Leading() {
			return fmt.Errorf("verify: %w", l.notLeader())
		}
		term := l.raft.CurrentTerm()
		if err := l.settle(ctx, term); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if err := l.ask(ctx); err != nil {
			return fmt.Errorf("verify: %w", l.readError(err))
		}
		if l.settled.Load() == term && l.confirmed(term, since) {
			return nil
		}
	}
}

// ask asks the others whether they follow. Raft counts the answers that a
// question needs when it is put, so one that waits for a voter who is removed
// meanwhile has no answer ever. It is put again when a leader whom nobody
// follows would have given up.
func (l *Log) ask(ctx context.Context) error {
	for {
		again, cancel := context.WithTimeout(ctx, 2*lease)
		_, err := wait(again, l, func(time.Duration) raft.Future { return l.raft.VerifyLeader() })
		late := again.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return err
		}
	}
}

// settle waits, once in each term, until all that leaders before this one
// have committed is applied here. What this one commits is applied here before
// it is acknowledged.
func (l *Log) settle(ctx context.Context, term uint64) error {
	if l.settled.Load() == term {
		return nil
	}
	if _, err := wait(ctx, l, l.barrier); err != nil {
		return l.readError(err)
	}
	if l.Leading() && l.raft.CurrentTerm() == term {
		l.settled.Store(term)
	}
	return nil
}

func (l *Log) barrier(timeout time.Duration) raft.Future { return l.raft.Barrier(timeout) }

// readError is outcome for what changes nothing: who lost the leadership does not lead.
func (l *Log) readError(err error) error {
	if errors.Is(err, raft.ErrLeadershipLost) {
		return l.notLeader()
	}
	if err := l.outcome(err); !errors.Is(err, ErrOutcomeUnknown) {
		return err
	}
	return err
}

// confirmed reports whether a majority has followed this leader's term since a
// time. Raft's own check also counts answers that were on their way, or lay in
// the socket of a process that was stopped, from before it was asked.
func (l *Log) confirmed(term uint64, since time.Time) bool {
	voters, yes := 0, 0
	for _, s := range l.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == l.cfg.ID || l.net != nil && l.net.followed(s.ID, term, since) {
			yes++
		}
	}
	return l.raft.CurrentTerm() == term && yes > voters/2
}
