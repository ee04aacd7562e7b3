package cluster

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func TestWhoIsDown(t *testing.T) {
	start := time.Unix(1000, 0)
	v := vigil{self: "me", leads: start, lease: 5 * time.Second, heartbeat: time.Second}
	cases := []struct {
		name  string
		seen  Sighting
		after time.Duration
		down  bool
		again time.Duration // 0: none
	}{
		{"heard lately", Sighting{Heard: start.Add(9 * time.Second), Gossip: RumourAlive}, 10 * time.Second, false, 14 * time.Second},
		{"silent for a lease, though gossip hears it", Sighting{Heard: start.Add(4 * time.Second), Gossip: RumourAlive}, 10 * time.Second, true, 0},
		{"gossip says dead, session silent", Sighting{Heard: start.Add(7 * time.Second), Gossip: RumourDead}, 10 * time.Second, true, 0},
		{"gossip says dead, session speaks", Sighting{Heard: start.Add(9500 * time.Millisecond), Gossip: RumourDead}, 10 * time.Second, false, 11500 * time.Millisecond},
		{"never called a new leader", Sighting{}, 4 * time.Second, false, 5 * time.Second},
		{"never called a new leader for a lease", Sighting{}, 5 * time.Second, true, 0},
		{"never called and dead", Sighting{Gossip: RumourDead}, 0, true, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			nodes := []*stack.Node{{ID: "me", Addr: "a"}, {ID: "other", Addr: "b"}, {ID: "gone", Addr: "c", Down: true, Fenced: true}}
			changed, _, again := v.judge(nodes, func(string) Sighting { return c.seen }, start.Add(c.after))
			if down := len(changed) == 1; len(changed) > 1 || down != c.down {
				t.Fatalf("changed %v", changed)
			}
			if c.down && (changed[0].ID != "other" || !changed[0].Down || changed[0].Message == "") {
				t.Errorf("got %+v", changed[0])
			}
			want := start.Add(c.again)
			if !c.down && !again.Equal(want) {
				t.Errorf("again %v, want %v", again, want)
			}
		})
	}
}

func TestANodeIsFencedWhenItsLeaseIsOver(t *testing.T) {
	start := time.Unix(1000, 0)
	v := vigil{self: "me", leads: start, lease: 5 * time.Second, heartbeat: time.Second}
	down := []*stack.Node{{ID: "other", Addr: "b", Down: true}}
	for _, c := range []struct {
		ends, now time.Duration
		fenced    bool
	}{{0, 5400 * time.Millisecond, false}, {0, 5500 * time.Millisecond, true}, {9 * time.Second, 8 * time.Second, false}, {9 * time.Second, 9 * time.Second, true}} {
		s := Sighting{}
		if c.ends > 0 {
			s.LeaseEnds = start.Add(c.ends)
		}
		changed, _, again := v.judge(down, func(string) Sighting { return s }, start.Add(c.now))
		if fenced := len(changed) == 1 && changed[0].Fenced; fenced != c.fenced || !fenced && !again.After(start.Add(c.now)) {
			t.Errorf("lease ends %s, now %s: %v, again %v", c.ends, c.now, changed, again)
		}
	}
}
