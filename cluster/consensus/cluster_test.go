package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestVotersAgree(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			v := mustVoters(t, n, nil)
			for i := range 200 { // over several snapshots
				v.write(command(i))
			}
			v.equal()
			began := time.Now()
			v.steady(func(lead *voter) error {
				if got := lead.Members(); len(got) != n || slices.ContainsFunc(got, func(m Member) bool { return !m.Voter || m.ID != lead.cfg.ID && m.Match == 0 }) {
					return fmt.Errorf("members: %+v", got)
				}
				for _, o := range v.others(lead.cfg.ID) {
					if err := v.follows(v.node(o), lead.cfg.ID, began); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// follows checks that a node is no leader, knows who is, and has heard of it since a time.
func (v *voters) follows(o *voter, lead string, since time.Time) error {
	_, err := o.Apply(v.within(10*time.Second), command(9999))
	var not *NotLeaderError
	if !errors.As(err, &not) || not.Leader != lead || !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) {
		return fmt.Errorf("command to a follower: %w", err)
	}
	if err := o.Verify(v.within(10 * time.Second)); !errors.As(err, &not) || not.Leader != lead {
		return fmt.Errorf("verify of a follower: %w", err)
	}
	for ctx := v.within(30 * time.Second); !o.LastContact().After(since); {
		v.poll(ctx, o.cfg.ID+" to hear of the leader")
	}
	return nil
}

func TestLostLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	v.write(put("k", "before"))
	var took []time.Duration
	for range 3 {
		old := v.leader().cfg.ID
		v.crash(old)
		start := time.Now()
		v.write(put("k", "after"))
		took = append(took, time.Since(start).Round(time.Millisecond))
		v.start(old, false)
		v.equal()
	}
	t.Logf("leader killed, next write after %v", took)
}

func TestClosingLeaderHandsOver(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	v.steady(func(old *voter) error {
		if err := old.Transfer(v.within(10 * time.Second)); err != nil {
			return err
		}
		if next := v.leader(); next == old {
			return errors.New("it leads still")
		}
		return nil
	})
	v.steady(func(old *voter) error {
		term := old.Indexes().Term
		start := time.Now()
		v.stopNode(old.cfg.ID)
		handed := slices.ContainsFunc(v.all(), func(n *voter) bool { return n.Indexes().Term > term })
		v.write(put("k", "v"))
		t.Logf("leader closed, next write after %s", time.Since(start).Round(time.Millisecond))
		if !handed { // else nobody had stood for election yet
			v.start(old.cfg.ID, false)
			return errors.New("nobody took over, the others elected")
		}
		return nil
	})
}

func TestLeaderWithoutMajorityStepsDown(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"both", "out", "in"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			v := mustVoters(t, 3, nil)
			var old *voter
			v.steady(func(lead *voter) error {
				old = lead
				v.net.heal()
				v.write(put("k", "1"))
				for _, o := range v.others(old.cfg.ID) {
					if way != "in" {
						v.net.cut(old.cfg.ID, o)
					}
					if way != "out" {
						v.net.cut(o, old.cfg.ID)
					}
				}
				_, err := old.Apply(v.within(20*time.Second), put("k", "lost"))
				if lost(err) {
					return err
				}
				if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotLeader) {
					t.Errorf("command without a majority: %v", err)
				}
				return nil
			})
			if err := old.Verify(v.within(20 * time.Second)); !errors.Is(err, ErrNotLeader) {
				t.Errorf("verify without a majority: %v", err)
			}
			v.write(put("k", "2"))
			v.net.heal()
			v.equal()
			if got := get(old.store, "k"); got != "2" {
				t.Errorf("k is %q", got)
			}
		})
	}
}

func TestFarBehindFollowerGetsSnapshot(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	lead := v.leader()
	gone := v.others(lead.cfg.ID)[0]
	v.crash(gone)
	big := strings.Repeat("x", segmentSize/40) // entries can be read as long as their segment is there
	for i := range 50 {
		v.write(put(fmt.Sprint(i%4), big))
	}
	for _, n := range v.all() { // whoever leads when it is back
		must(t, n.Snapshot())
	}
	for i := range 30 {
		v.write(command(1000 + i))
	}
	n := v.start(gone, false)
	v.equal()
	if first, err := n.files.guard.FirstIndex(); err != nil || first < 50 {
		t.Errorf("log begins at %d, %v: it was replayed", first, err)
	}
	must(t, n.Snapshot())
	v.crash(gone)
	v.start(gone, false)
	v.equal()
}

func TestFollowerStartsWithWhatItKnew(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	for i := range 20 {
		v.write(command(i))
	}
	v.equal()
	want := bytesOf(t, v.node("b").store)
	for _, id := range v.ids {
		v.crash(id)
	}
	n := v.start("b", false) // nobody to ask
	if !bytes.Equal(bytesOf(t, n.store), want) {
		t.Error("its state is older than what it had applied")
	}
	if err := n.Verify(v.within(100 * time.Millisecond)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("verify: %v", err)
	}
	v.start("a", false)
	v.start("c", false)
	v.equal()
}

func TestSlowDisksElectNobody(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, func(c *Config) {
		c.WrapLog = func(s raft.LogStore) raft.LogStore { return &slowStore{s, 200 * time.Millisecond} }
	})
	v.steady(func(lead *voter) error {
		for i := range 15 {
			if _, err := lead.Apply(v.within(20*time.Second), command(i)); err != nil {
				return err
			}
		}
		return nil
	})
	lead := v.leader().cfg.ID
	start := time.Now()
	v.crash(lead)
	v.write(put("k", "v"))
	t.Logf("with slow disks, leader killed, next write after %s", time.Since(start).Round(time.Millisecond))
	v.start(lead, false)
	v.equal()
}

// slowStore is a disk that takes its time for each write.
type slowStore struct {
	raft.LogStore
	each time.Duration
}

func (s *slowStore) StoreLogs(e []*raft.Log) error {
	time.Sleep(s.each) // the disk
	return s.LogStore.StoreLogs(e)
}

func (s *slowStore) StoreLog(e *raft.Log) error { return s.StoreLogs([]*raft.Log{e}) }
