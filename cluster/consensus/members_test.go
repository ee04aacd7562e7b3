package consensus

import (
	"context"
	"errors"
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
	must(t, a.AddVoter(v.within(5*time.Second), "b"))
	must(t, a.AddVoter(v.within(5*time.Second), "b"))
	if m, _ := a.member("b"); !m.Voter {
		t.Errorf("member %+v", m)
	}
}

// A node that does not answer must never count for the majority.
func TestDeadJoinerGetsNoVote(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 1, nil)
	err := v.leader().AddVoter(v.within(500*time.Millisecond), "ghost")
	if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("add: %v", err)
	}
	if m, _ := v.leader().member("ghost"); m.Voter {
		t.Error("it votes")
	}
	v.write(put("k", "v"))
	must(t, v.leader().Remove(v.within(5*time.Second), "ghost", false))
	must(t, v.leader().Remove(v.within(5*time.Second), "ghost", false))
	if got := v.leader().Members(); len(got) != 1 {
		t.Errorf("members %v", got)
	}
}

func TestRemoveKeepsAMajority(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	lead := v.leader()
	others := v.others(lead.cfg.ID)
	dead, alive := others[0], others[1]
	v.crash(dead)
	wait := v.within(10 * time.Second)
	for m, _ := lead.member(dead); reachable(m); m, _ = lead.member(dead) {
		v.poll(wait, "the leader to miss it")
	}
	err := lead.Remove(v.within(5*time.Second), alive, false)
	if err == nil || !strings.Contains(err.Error(), "only 1 answer") {
		t.Errorf("remove one of two that answer: %v", err)
	}
	if m, _ := lead.member(alive); !m.Voter {
		t.Error("it was removed")
	}
	must(t, lead.Remove(v.within(5*time.Second), dead, false)) // the dead one may go
	v.join("d")                                                // and is replaced
	v.crash(alive)
	v.write(put("k", "v"))
	v.start(alive, false)
	v.ids = v.others(dead)
	v.equal()
}

func TestLeaderIsRemovedByItsSuccessor(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	old := v.leader()
	err := old.Remove(v.within(5*time.Second), old.cfg.ID, false)
	var not *NotLeaderError
	if !errors.As(err, &not) || not.Leader == "" || not.Leader == old.cfg.ID {
		t.Fatalf("remove the leader: %v", err)
	}
	must(t, v.leader().Remove(v.within(5*time.Second), old.cfg.ID, false))
	v.ids = v.others(old.cfg.ID)
	v.write(put("k", "v"))
	if got := v.leader().Members(); len(got) != 2 {
		t.Errorf("members %v", got)
	}
	must(t, old.Close())
	last := v.leader().cfg.ID
	must(t, v.leader().Remove(v.within(5*time.Second), v.others(last)[0], false))
	if err := v.leader().Remove(v.within(5*time.Second), last, false); err == nil || !strings.Contains(err.Error(), "only manager") {
		t.Errorf("remove the last: %v", err)
	}
	v.write(put("k", "w"))
}

// Whoever makes sure of the leadership while the only other voter goes must not
// wait for its answer for ever.
func TestVerifyOutlivesAVoter(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 2, nil)
	lead := v.leader()
	dead := v.others(lead.cfg.ID)[0]
	ctx := v.within(10 * time.Second)
	var loops sync.WaitGroup
	verified, gone := make(chan struct{}), make(chan struct{})
	for range 4 { // at any moment, one of them asks
		loops.Go(func() {
			for {
				if err := lead.Verify(ctx); err != nil {
					t.Errorf("verify: %v", err)
					return
				}
				select {
				case verified <- struct{}{}:
				case <-gone:
					return
				default:
				}
			}
		})
	}
	<-verified
	v.crash(dead)
	must(t, lead.Remove(v.within(5*time.Second), dead, true))
	v.ids = v.others(dead)
	close(gone)
	loops.Wait()
}

func TestNoMoreThanSevenVoters(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, MaxVoters, nil)
	v.start("x", true)
	v.ids = append(v.ids, "x")
	if err := v.leader().AddVoter(v.within(5*time.Second), "x"); err == nil || !strings.Contains(err.Error(), "7 managers") {
		t.Errorf("an eighth: %v", err)
	}
	v.equal()
}
