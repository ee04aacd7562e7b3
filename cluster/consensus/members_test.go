package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestJoinerWaitsToBeAdded(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 1, nil)
	for i := range 100 { // a snapshot's worth
		v.write(command(i))
	}
	b := v.start("b", true)
	v.ids = append(v.ids, "b")
	if _, err := b.Apply(v.within(time.Second), command(1000)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("command to a node that waits: %v", err)
	}
	if len(b.Members()) != 0 || b.Leader() != "" {
		t.Errorf("it knows %v, leader %q", b.Members(), b.Leader())
	}
	a := v.node("a")
	must(t, a.AddNonvoter(v.within(5*time.Second), "b"))
	v.equal()
	if m, ok := a.member("b"); !ok || m.Voter {
		t.Errorf("member %+v", m)
	}
	v.crash("b") // without a vote it is not missed
	v.write(put("k", "v"))
	v.start("b", true) // opened as it is
	v.equal()
	for range 2 {
		v.steady(func(lead *voter) error { return lead.AddVoter(v.within(20*time.Second), "b") })
	}
	v.steady(func(lead *voter) error {
		if m, _ := lead.member("b"); !m.Voter {
			return fmt.Errorf("member %+v", m)
		}
		return nil
	})
}

// A node that does not answer must never count for the majority.
func TestDeadJoinerGetsNoVote(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 1, nil)
	err := v.leader().AddVoter(v.within(3*time.Second), "ghost")
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("add: %v", err)
	}
	if m, _ := v.leader().member("ghost"); m.Voter {
		t.Error("it votes")
	}
	v.write(put("k", "v"))
	must(t, v.leader().Remove(v.within(20*time.Second), "ghost", false))
	must(t, v.leader().Remove(v.within(20*time.Second), "ghost", false))
	if got := v.leader().Members(); len(got) != 1 {
		t.Errorf("members %v", got)
	}
}

func TestRemoveKeepsAMajority(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	dead, alive := v.others(v.leader().cfg.ID)[0], ""
	v.crash(dead)
	v.steady(func(lead *voter) error {
		alive = slices.DeleteFunc(v.others(dead), func(id string) bool { return id == lead.cfg.ID })[0]
		wait := v.within(30 * time.Second)
		for m, _ := lead.member(dead); reachable(m); m, _ = lead.member(dead) {
			v.poll(wait, "the leader to miss it")
		}
		err := lead.Remove(v.within(20*time.Second), alive, false)
		if err == nil || !strings.Contains(err.Error(), "only 1 answer") {
			return fmt.Errorf("remove one of two that answer: %w", err)
		}
		if m, _ := lead.member(alive); !m.Voter {
			return errors.New("it was removed")
		}
		return nil
	})
	v.steady(func(lead *voter) error { return lead.Remove(v.within(20*time.Second), dead, false) }) // the dead one may go
	v.ids = v.others(dead)
	v.join("d") // and is replaced
	v.acquainted()
	v.crash(alive)
	v.write(put("k", "v"))
	v.start(alive, false)
	v.equal()
}

func TestLeaderIsRemovedByItsSuccessor(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	var old *voter
	v.steady(func(lead *voter) error {
		old = lead
		err := old.Remove(v.within(20*time.Second), old.cfg.ID, false)
		var not *NotLeaderError
		if !errors.As(err, &not) || not.Leader == "" || not.Leader == old.cfg.ID {
			return fmt.Errorf("remove the leader: %w", err)
		}
		return nil
	})
	v.steady(func(lead *voter) error {
		if lead == old { // its successor has lost the lead again
			return errors.Join(errors.New("it was elected again"), lead.Transfer(v.within(20*time.Second)))
		}
		return lead.Remove(v.within(20*time.Second), old.cfg.ID, false)
	})
	v.ids = v.others(old.cfg.ID)
	v.write(put("k", "v"))
	if got := v.leader().Members(); len(got) != 2 {
		t.Errorf("members %v", got)
	}
	must(t, old.Close())
	var last string
	v.steady(func(lead *voter) error {
		last = lead.cfg.ID
		return lead.Remove(v.within(20*time.Second), v.others(last)[0], false)
	})
	if err := v.node(last).Remove(v.within(20*time.Second), last, false); err == nil || !strings.Contains(err.Error(), "only manager") {
		t.Errorf("remove the last: %v", err)
	}
	v.write(put("k", "w"))
}

// Whoever makes sure of the leadership while the only other voter goes must not
// wait for its answer for ever.
func TestVerifyOutlivesAVoter(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 2, nil)
	v.steady(func(lead *voter) error {
		dead := v.others(lead.cfg.ID)[0]
		ctx := v.within(60 * time.Second)
		var loops sync.WaitGroup
		verified, gone, failed := make(chan struct{}, 1), make(chan struct{}), make(chan error, 4)
		for range 4 { // at any moment, one of them asks
			loops.Go(func() { failed <- verifyUntil(ctx, lead, verified, gone) })
		}
		<-verified
		v.crash(dead)
		err := lead.Remove(ctx, dead, true)
		close(gone)
		loops.Wait()
		for range 4 {
			err = errors.Join(err, <-failed)
		}
		if err != nil { // with both there is a leader again
			v.start(dead, false)
			return err
		}
		v.ids = v.others(dead)
		return nil
	})
}

// verifyUntil makes sure that a node leads, again and again until gone; it tells when it was so.
func verifyUntil(ctx context.Context, lead *voter, verified, gone chan struct{}) error {
	for {
		err := lead.Verify(ctx)
		select {
		case verified <- struct{}{}:
		default:
		}
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		select {
		case <-gone:
			return nil
		default:
		}
	}
}

func TestNoMoreThanSevenVoters(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, MaxVoters, nil)
	v.start("x", true)
	v.ids = append(v.ids, "x")
	v.steady(func(lead *voter) error {
		if err := lead.AddVoter(v.within(20*time.Second), "x"); err == nil || !strings.Contains(err.Error(), "7 managers") {
			return fmt.Errorf("an eighth: %w", err)
		}
		return nil
	})
	v.equal()
}
