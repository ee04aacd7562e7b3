package gossip

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/memberlist"
)

// Tuning decides how fast a death is noticed and how rarely a living node is
// taken for dead.
type Tuning struct {
	Probe     time.Duration // between two probes that a node makes; a probe without an answer takes as long
	Answer    time.Duration // that a direct probe may take before other nodes and TCP are tried, within Probe
	Suspicion int           // times Probe (times log10 of the nodes, at least 1) that a suspect has to protest
	Doubt     int           // times that while nobody else has confirmed the suspicion
	Spread    time.Duration // between two rounds of news
	Repeat    int           // times (times log10 of the nodes, rounded up) that a node tells each news; 0: once
	Full      time.Duration // between two exchanges of all that is known, with one node; sooner with one that knows something else
}

// LAN is for nodes within some 50 ms of each other.
//
// In five nodes each probes the four others in turn, so a dead one is probed
// 0.2 s after its death on average. The probe fails 0.26 s later, and the
// suspect has 1.04 s to protest, if two others confirm by then: 1.5 s in all;
// measured are 1.5 to 2 s. Without confirmation (those may have died with
// it) it is 2.5 s. A process that stands still for a second wakes at least
// 0.26 + 1.04 - 1 = 0.3 s before anybody gives it up, and its protest takes one
// round of news. A machine too busy for its own probes makes them slower
// (awareness), not its verdicts faster.
//
// The price is about a probe and an answer each 0.26 s and node, whatever the
// size of the cluster: see TestIdleTraffic.
var LAN = Tuning{
	Probe:     260 * time.Millisecond,
	Answer:    130 * time.Millisecond,
	Suspicion: 4,
	Doubt:     2,
	Spread:    100 * time.Millisecond,
	Repeat:    4,
	Full:      30 * time.Second,
}

func (t Tuning) apply(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.Answer
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = t.Suspicion, t.Doubt
	c.GossipInterval, c.PushPullInterval, c.RetransmitMult = t.Spread, t.Full, t.Repeat
	c.IndirectChecks = 3
	c.AwarenessMaxMultiplier = 4
	c.TCPTimeout = 2 * time.Second
	c.GossipToTheDeadTime = 30 * time.Second
	// A node that comes back with another address is believed as soon as the old
	// address is dead: its ID is vouched for by the key.
	c.DeadNodeReclaimTime = time.Nanosecond
	c.EnableCompression = false // packets are small, and it costs more than they weigh
	c.QueueCheckInterval = 30 * time.Second
}

// jitter keeps nodes that failed together from trying together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d)
}
