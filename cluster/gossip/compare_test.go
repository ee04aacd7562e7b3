package gossip

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestMissedNewsAreCaughtUp: each node tells each news to one other and never
// again, so that most news do not reach everybody by themselves.
func TestMissedNewsAreCaughtUp(t *testing.T) {
	simulated(t, func(t *testing.T) {
		n := newMemNet()
		tuning := LAN
		tuning.Repeat = 0
		var all []*Gossip
		for i := range 8 {
			g := start(t, Config{Node: fmt.Sprint("n", i+1), Transport: n.host(), Tuning: tuning})
			if all = append(all, g); i == 0 {
				continue
			}
			if err := g.Join(t.Context(), []string{all[0].Addr()}); err != nil {
				t.Fatal(err)
			}
		}
		for _, g := range all {
			await(t, g, "eight nodes", func() bool { return count(g) == len(all) })
		}
		if err := all[3].SetMeta(Meta{Hostname: "four"}); err != nil {
			t.Fatal(err)
		}
		for _, g := range all {
			await(t, g, "n4's host name", func() bool { m, _ := g.Member("n4"); return m.Meta.Hostname == "four" })
		}
	})
}

func heard(node string, at byte, meta string) *memberlist.Node {
	return &memberlist.Node{Name: node, Addr: net.IPv4(10, 0, 0, at), Port: DefaultPort, Meta: []byte(meta)}
}

func TestSumsSayWhoIsAlive(t *testing.T) {
	a, b := newTeller("n1"), newTeller("n2")
	same := func(want bool, when string) {
		t.Helper()
		if (a.sum() == b.sum()) != want {
			t.Errorf("%s: the sums are the same: %v", when, !want)
		}
	}
	a.NotifyJoin(heard("n1", 1, ""))
	a.NotifyJoin(heard("n2", 2, ""))
	same(false, "one is not known")
	b.NotifyJoin(heard("n2", 2, ""))
	b.NotifyJoin(heard("n1", 1, ""))
	same(true, "heard in another order")
	a.NotifyUpdate(heard("n2", 2, `{"h":"two"}`))
	same(false, "what a node tells of itself")
	b.NotifyUpdate(heard("n2", 2, `{"h":"two"}`))
	same(true, "told")
	a.NotifyJoin(heard("n3", 3, ""))
	a.NotifyLeave(heard("n3", 3, ""))
	same(true, "one that is dead, and was never heard of")
	a.NotifyLeave(heard("n2", 2, ""))
	a.NotifyJoin(heard("n2", 9, `{"h":"two"}`))
	same(false, "another address")
}

// TestWhoIsCalledForADifference: one that stays, not one of news on their way.
func TestWhoIsCalledForADifference(t *testing.T) {
	g := newTeller("n1")
	now := time.Unix(1000, 0)
	at := func(after time.Duration, theirs sum) bool { now = now.Add(after); return g.odd(theirs, now) }
	x, y := sum{1}, sum{2}
	g.NotifyJoin(heard("n1", 1, ""))
	switch {
	case at(0, g.sum()) || at(time.Hour, g.sum()):
		t.Error("there was no difference")
	case at(0, x) || at(slack/2, x):
		t.Error("the news were on their way")
	case at(0, g.sum()) || !at(slack/2, x):
		t.Error("others knowing the same, one did not")
	case at(0, x) || at(slack, x) || !at(slack, x):
		t.Error("the first call changed nothing: the second comes after twice as long")
	}
	g.NotifyJoin(heard("n2", 2, "")) // the third changes something
	if at(0, x) || at(slack/2, y) || !at(slack/2, x) {
		t.Error("it begins anew, for each sum")
	}
	for range 10 {
		at(0, x)
		if !at(maxSlack, x) {
			t.Error("it is called for ever")
		}
	}
	for i := range 10 * maxSums {
		at(0, sum{3, byte(i), byte(i >> 8)})
	}
	if got := len(g.read.first); got > maxSums {
		t.Errorf("%d sums are remembered", got)
	}
}
