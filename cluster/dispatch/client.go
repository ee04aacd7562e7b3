package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// ClientConfig of a Client. Node, Dial, Managers and Describe are required.
type ClientConfig struct {
	Node     string // ID
	Cluster  string // ID; a cache of another cluster is not used
	Dial     func(ctx context.Context, node string) (net.Conn, error)
	Managers func() []string        // IDs, the most likely leader first; what the last view told is known anyway
	Local    func() Core            // while this node leads; nil, or an answer of nil: it does not
	Wake     func() <-chan struct{} // closed when Local or Managers may answer differently; nil: never
	Describe func() Description     // after Refresh it is asked again
	Terms    func(nodes int) Terms  // of a node that leads itself; nil: DefaultTerms
	Cache    string                 // file that keeps the last complete answer; "": none
	Log      *slog.Logger
}

// Client is a node's side. It is the agent's source of tasks.
type Client struct {
	cfg    ClientConfig
	log    *slog.Logger
	mirror *mirror
	lease  *lease
	cache  *cache

	described chan struct{} // capacity 1: Describe answers differently
	beats     uint64        // heartbeats sent; Run's own
	lost      string        // the leader whose session was cut; Run's own

	mu      sync.Mutex
	call    call                    // guarded by mu: nil while no leader is reached
	leader  string                  // guarded by mu: at the other end of call
	begun   uint64                  // guarded by mu: sessions since the start
	calling chan struct{}           // guarded by mu: closed when call changes
	drop    context.CancelCauseFunc // guarded by mu: ends the call
}

// call is a way to report to the leader.
type call interface {
	report(ctx context.Context, reports []stack.TaskReport) error
}

// NewClient returns a client that shows what its cache has until Run has reached
// a leader. To act on that is right only where there is none: the file is a
// moment older than what the managers know, and says of a task that has just
// ended that it runs, and of a start that was asked for that it is still to be made.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Terms == nil {
		cfg.Terms = DefaultTerms
	}
	c := &Client{
		cfg: cfg, log: cfg.Log.With("part", "dispatch"), mirror: newMirror(), lease: newLease(),
		described: make(chan struct{}, 1), calling: make(chan struct{}),
	}
	c.cache = newCache(cfg.Cache, cfg.Cluster, cfg.Node, c.mirror, c.log)
	c.cache.load()
	return c
}

// Ready is closed when there is a complete answer to show, from a leader, or from
// the cache when none has answered for patientCache: until then an empty list
// says nothing, and nobody may act on any.
func (c *Client) Ready() <-chan struct{} { return c.mirror.ready }

// Assignments returns the tasks of this node, by ID.
func (c *Client) Assignments(node string) []stack.Assignment {
	if node != c.cfg.Node {
		return nil
	}
	return c.mirror.assignments()
}

// Changed is closed when Assignments, View, Networks or Directory may answer differently.
func (c *Client) Changed() <-chan struct{} { return c.mirror.changed() }

// View returns what the leader last said of the cluster.
func (c *Client) View() View {
	v, _ := c.mirror.shown()
	return v
}

// Index is of the state that the answers are of.
func (c *Client) Index() uint64 {
	_, i := c.mirror.shown()
	return i
}

// Networks of the cluster.
func (c *Client) Networks() []stack.Network { return c.View().Networks }

// Directory is what this node was told of a network by its name, or of published
// ports (""); nil: nothing. The same pointer is the same content.
func (c *Client) Directory(topic string) *stack.Directory { return c.mirror.directory(topic) }

// Lease says whether this node still holds its lease, and when it ends or has ended.
func (c *Client) Lease() (bool, time.Time) { return c.lease.holds(time.Now()) }

// Term is the lease: when the heartbeat was sent that it is for, and when it
// ends or has ended. Both are zero when there never was one.
func (c *Client) Term() (from, until time.Time) { return c.lease.term() }

// Leader is the manager that this node has a session with; "": none.
func (c *Client) Leader() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader
}

// Sessions counts those that this node has had since it started.
func (c *Client) Sessions() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// Refresh says that Describe answers differently.
func (c *Client) Refresh() {
	select {
	case c.described <- struct{}{}:
	default:
	}
}

// Suspect ends the session with a manager that is said to be dead, so that
// another one is tried at once.
func (c *Client) Suspect(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader == node && c.drop != nil {
		c.drop(errors.New("the other nodes say that it is dead"))
	}
}

// patientCache is how long a leader may take to answer after a start, before
// the tasks of the last run are taken for those of this one.
const patientCache = 2 * time.Second

// reportSize is how many statuses go in one message.
const reportSize = 512

// patientReport is how long a report waits for a session.
const patientReport = 3 * time.Second

// errNoSession: nothing of the report was stored, as far as this node knows.
var errNoSession = errors.New("no manager that leads can be reached")

// Report returns when the leader has stored what the node observed. After an
// error it may have been stored or not, and is to be reported again.
func (c *Client) Report(ctx context.Context, reports []stack.TaskReport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for part := range slices.Chunk(reports, reportSize) {
		to, err := c.session(ctx)
		if err != nil {
			return fmt.Errorf("report status: %w", err)
		}
		if err := to.report(ctx, bounded(part)); err != nil {
			return fmt.Errorf("report status: %w", err)
		}
		c.mirror.observed(part)
		c.cache.poke()
	}
	return nil
}

// describe is what this node says of itself.
func (c *Client) describe() Description { return c.cfg.Describe().bounded() }

// session waits a while for one.
func (c *Client) session(ctx context.Context) (call, error) {
	late := time.NewTimer(patientReport)
	defer late.Stop()
	for {
		c.mu.Lock()
		now, changed := c.call, c.calling
		c.mu.Unlock()
		if now != nil {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, errNoSession
		case <-changed:
		}
	}
}

// use makes to the session; nil: there is none.
func (c *Client) use(to call, leader string, drop context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.call, c.leader, c.drop = to, leader, drop
	if to != nil {
		c.begun++
	}
	close(c.calling)
	c.calling = make(chan struct{})
}

// Run keeps a session with the leader until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { c.cache.run(ctx) })
	if c.mirror.kept() {
		late := time.AfterFunc(patientCache, c.mirror.settle)
		defer late.Stop()
	}
	defer loops.Wait()
	hint, fails := "", 0
	for ctx.Err() == nil {
		if core := c.local(); core != nil {
			c.log.Debug("session with this node's own manager has ended", "error", c.lead(ctx, core))
			hint = ""
			c.pause(ctx, 1) // its leadership may be coming or going
			continue
		}
		next, err := c.follow(ctx, hint)
		if err == nil { // there was a session
			hint, fails = next, 0
			continue
		}
		hint = ""
		fails++
		c.log.Debug("no session with a leader", "error", err, "tries", fails)
		c.pause(ctx, fails)
	}
	return ctx.Err()
}

func (c *Client) local() Core {
	if c.cfg.Local == nil {
		return nil
	}
	return c.cfg.Local()
}

func (c *Client) wake() <-chan struct{} {
	if c.cfg.Wake == nil {
		return nil
	}
	return c.cfg.Wake()
}

// Bounds of the pause between two tries.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// pause waits before the next try, longer each time, and different on each node.
func (c *Client) pause(ctx context.Context, fails int) {
	d := min(firstPause<<min(fails-1, 10), lastPause)
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-c.wake():
	}
}

// managers are the nodes to try, hint first.
func (c *Client) managers(hint string) []string {
	known := c.cfg.Managers()
	seen := c.View().Managers()
	rand.Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] })
	var out []string
	for _, id := range slices.Concat([]string{hint}, known, seen) {
		if id != "" && id != c.cfg.Node && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
