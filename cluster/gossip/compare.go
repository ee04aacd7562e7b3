package gossip

import (
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// comparison finds nodes that know something else than this one. News are told
// to some nodes by chance and a few times only, so in one of some thirty joins of
// five nodes somebody missed one, and would have learned it half a minute later
// from the next exchange of all that is known. Hence each answer to a probe
// carries a sum of what the answering node knows. Who keeps finding the same
// difference exchanges everything with that node: see Run.
type comparison struct{ g *Gossip }

// AckPayload is the sum that goes with an answer.
func (c comparison) AckPayload() []byte {
	sum := c.g.tell.sum()
	return sum[:]
}

// NotifyPingComplete looks at the sum of a node that answered. One without a sum
// is of an older version: nothing is known of what it knows.
func (c comparison) NotifyPingComplete(other *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) != len(sum{}) || !c.g.tell.odd(sum(payload), time.Now()) {
		return
	}
	select {
	case c.g.differ <- gossipOf(other):
	default: // Run has one to call
	}
}

// sum of the living, with their addresses and what they tell of themselves, as
// they sent it: versions that read it differently have the same sum. The dead are
// left out: nodes forget them at different times.
type sum [8]byte

// reading is what the answers were compared with.
type reading struct {
	sum   *sum              // nil: to be made anew
	first map[sum]time.Time // when another sum was first seen beside this one
	wait  time.Duration     // between seeing one and calling
}

const (
	// slack is how long news may be on their way: some rounds of telling.
	slack = time.Second
	// maxSlack is slack after calls that changed nothing, doubled each time.
	maxSlack = 30 * time.Second
	// maxSums is how many other sums are remembered: in a cluster where so much
	// happens all will change again.
	maxSums = 64
)

func (t *teller) sum() sum {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sumLocked()
}

func (t *teller) sumLocked() sum {
	if t.read.sum == nil {
		h := sha256.New()
		for _, node := range slices.Sorted(maps.Keys(t.facts)) {
			h.Write([]byte(t.facts[node]))
		}
		s := sum(h.Sum(nil)[:len(sum{})])
		t.read = reading{sum: &s, first: map[sum]time.Time{}, wait: slack}
	}
	return *t.read.sum
}

// odd reports whether another node's sum has differed from ours for too long,
// while ours was the same: then one of the two has missed something.
func (t *teller) odd(theirs sum, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if theirs == t.sumLocked() {
		return false
	}
	r := &t.read
	first, seen := r.first[theirs]
	if !seen {
		if len(r.first) == maxSums {
			clear(r.first)
		}
		r.first[theirs] = now
		return false
	}
	if now.Sub(first) < r.wait {
		return false
	}
	clear(r.first)
	r.wait = min(2*r.wait, maxSlack)
	return true
}
