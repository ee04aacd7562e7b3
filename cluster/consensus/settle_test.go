package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// gatedStore stores nothing while its gate is shut.
type gatedStore struct {
	raft.LogStore
	gate chan chan struct{} // holds what is to be waited for; nil: nothing
}

func (s *gatedStore) StoreLogs(list []*raft.Log) error {
	if on := <-s.gate; on != nil {
		s.gate <- on
		<-on
	} else {
		s.gate <- nil
	}
	return s.LogStore.StoreLogs(list)
}

func (s *gatedStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// What nobody waited for to the end may be applied later: who decides next
// waits until it is known.
func TestNothingIsDecidedWhileACommandIsFlying(t *testing.T) {
	g := &gatedStore{gate: make(chan chan struct{}, 1)}
	g.gate <- nil
	store := state.New()
	l, err := Open(Config{Dir: t.TempDir(), ID: "one", Store: store, Log: slog.New(slog.DiscardHandler), WrapLog: func(s raft.LogStore) raft.LogStore {
		g.LogStore = s
		return g
	}})
	must(t, err)
	defer mustClose(t, l)
	mustApply(t, l, 0, 3)
	must(t, l.Settle(t.Context()))

	shut := make(chan struct{})
	<-g.gate
	g.gate <- shut
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Apply(ctx, command(3)); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Settle(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("settled while a command is on its way: %v", err)
	}
	settled := make(chan error, 1)
	go func() { settled <- l.Settle(context.Background()) }()
	<-g.gate
	g.gate <- nil
	close(shut)
	must(t, <-settled)
	if store.Snapshot().Task("t000003") == nil {
		t.Error("settled, and what was on its way is not applied")
	}
	if len(l.flying) > 0 {
		t.Errorf("%d commands are remembered", len(l.flying))
	}
}

// Whoever leads decides from all that the leaders before it have acknowledged.
func TestANewLeaderDecidesFromAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	early := 0
	for i := range 12 {
		key := fmt.Sprint("k", i)
		v.write(put(key, "v"))
		must(t, v.leader().Transfer(v.within(5*time.Second)))
		n := leadingOne(v)
		has := func() bool { return get(n.store, key) == "v" }
		if !has() {
			early++
		}
		err := n.Settle(v.within(5 * time.Second))
		if errors.Is(err, ErrNotLeader) { // it has lost the lead at once
			continue
		}
		if must(t, err); !has() {
			t.Fatalf("settled without %s", key)
		}
	}
	t.Logf("%d of 12 leaders began with a state older than what was acknowledged", early)
}

// Whoever has led, and does no more, decides nothing, although its term goes on.
func TestWhoLeadsNoMoreDecidesNothing(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	v.steady(func(lead *voter) error {
		if err := lead.Settle(v.within(5 * time.Second)); err != nil {
			return err
		}
		term := lead.Indexes().Term
		id := lead.cfg.ID
		defer v.net.heal()
		v.net.split([]string{id}, v.others(id))
		for ctx := v.within(20 * time.Second); lead.Leading(); {
			v.poll(ctx, id+" to lead no more")
		}
		if err := lead.Settle(v.within(5 * time.Second)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("settled: %v; term %d, before %d", err, lead.Indexes().Term, term)
		}
		return nil
	})
}

// leadingOne is a node as soon as it leads.
func leadingOne(v *voters) *voter {
	for {
		for _, n := range v.all() {
			if n.Leading() {
				return n
			}
		}
	}
}
