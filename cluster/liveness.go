package cluster

import (
	"reflect"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Sighting is what is known of a node's life at a moment.
type Sighting struct {
	Heard     time.Time // last word over its session; zero: none since this manager leads
	LeaseEnds time.Time // when its node gives up by itself at the latest; zero: no session since this manager leads
	Gossip    Rumour
}

// Rumour is what the nodes tell each other of one.
type Rumour int

// The rumours.
const (
	NoRumour Rumour = iota
	RumourAlive
	RumourDead
)

// vigil is what judging the nodes' life needs beside the sightings.
type vigil struct {
	self      string
	leads     time.Time     // since when this manager leads
	lease     time.Duration // of sessions
	heartbeat time.Duration // between two words of a session
}

// joinPatience is how long a machine that has been admitted may take for its
// first call: one that was lost in between joins as another node.
const joinPatience = time.Hour

// judge returns the nodes whose Down is to change, with the change made, and
// when to look again, zero if only a new sighting can change something.
//
// A node is down when gossip says that it is dead and its session is silent
// too, or when its session has been silent for a lease, whatever gossip says:
// what cannot be told what to do does not count. Who has not called since this
// manager leads has a lease's time to do so. Only a call brings a node back.
//
// Who has been admitted and never called is gone after joinPatience.
//
// A node that is down is fenced when its own lease has certainly ended too.
func (v vigil) judge(nodes []*stack.Node, seen func(string) Sighting, now time.Time) (changed, gone []*stack.Node, again time.Time) {
	for _, n := range nodes {
		if n.ID == v.self || n.Addr == "" {
			continue
		}
		if n.Joining != "" && n.Down { // tokens are shown, then machines lost
			end := time.Unix(0, n.Created).Add(joinPatience)
			if !now.Before(end) {
				gone = append(gone, n)
				continue
			}
			again = earlier(again, end)
		}
		if n.Fenced {
			continue
		}
		s := seen(n.ID)
		if n.Down {
			if end := v.fence(s); now.Before(end) {
				again = earlier(again, end)
			} else {
				c := *n
				c.Fenced = true
				changed = append(changed, &c)
			}
			continue
		}
		silent := s.Heard
		if silent.Before(v.leads) {
			silent = v.leads
		}
		patience := v.lease
		if s.Gossip == RumourDead {
			patience = 2 * v.heartbeat
			if s.Heard.IsZero() {
				patience = 0
			}
		}
		end := silent.Add(patience)
		if now.Before(end) {
			again = earlier(again, end)
			continue
		}
		c := *n
		c.Down, c.Since = true, now.UnixNano()
		c.Message = "has not called for " + now.Sub(silent).Round(100*time.Millisecond).String()
		if s.Gossip == RumourDead {
			c.Message = "does not answer the other nodes"
		}
		changed = append(changed, &c)
		again = earlier(again, v.fence(s))
	}
	return changed, gone, again
}

// fence is when a node has ended its exclusive tasks by itself at the latest. A
// manager before this one may have granted a lease just before this one led.
func (v vigil) fence(s Sighting) time.Time {
	end := v.leads.Add(v.lease + v.lease/10)
	if s.LeaseEnds.After(end) {
		return s.LeaseEnds
	}
	return end
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func sameNode(a, b *stack.Node) bool { return reflect.DeepEqual(a, b) }
