package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/dhow-project/dhow/overlaynet"
)

// Config of New.
type Config struct {
	RunDir string // the table's name derives from it
	Log    *slog.Logger
}

// Rules keeps one table in the network namespace of the process.
type Rules struct {
	log   *slog.Logger
	mark  string // what the names of our bridges begin with
	table *nftables.Table
	host  string // the machine's name

	queueMu sync.Mutex
	queue   []*job // guarded by queueMu

	mu    sync.Mutex     // held during a transaction
	conn  *nftables.Conn // guarded by mu
	model model          // guarded by mu: what the kernel has
	built bool           // guarded by mu: the table is there
	gone  bool           // guarded by mu: the table is surely not there

	warnings []string // guarded by mu: what is in the way on this host
	meshed   bool     // guarded by mu: it is known whether there is a mesh

	writes atomic.Uint64
}

var _ overlaynet.Rules = (*Rules)(nil)

type job struct {
	change overlaynet.Change
	done   bool
	err    error
}

// New returns Rules that have touched nothing yet.
func New(c Config) *Rules {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	mark := overlaynet.Mark(c.RunDir)
	host, _ := os.Hostname() // without one it begins as others do
	return &Rules{
		log:   c.Log,
		mark:  mark,
		host:  host,
		table: &nftables.Table{Family: nftables.TableFamilyINet, Name: "dhow_" + mark[2:]},
		model: newModel(),
	}
}

// Apply changes the rules in one transaction. Calls that wait for their turn
// together are applied together.
func (r *Rules) Apply(_ context.Context, c overlaynet.Change) error {
	j := &job{change: c}
	r.queueMu.Lock()
	r.queue = append(r.queue, j)
	r.queueMu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	if j.done {
		return j.err
	}
	r.queueMu.Lock()
	jobs := r.queue
	r.queue = nil
	r.queueMu.Unlock()
	err := r.commitLocked(jobs)
	r.meshed = r.meshed || slices.ContainsFunc(jobs, func(x *job) bool { return x.change.Inbound != nil })
	if err == nil && slices.ContainsFunc(jobs, func(x *job) bool { return len(x.change.Segments) > 0 || x.change.Inbound != nil }) {
		if err := r.meetLocked(); err != nil { // a network of ours works without, on most hosts
			r.log.Warn("packet filter: beside other programs' rules", "err", err)
		}
	}
	for _, x := range jobs {
		x.done = true
		if x.err == nil {
			x.err = err
		}
	}
	return j.err
}

func (r *Rules) commitLocked(jobs []*job) error {
	c := r.model.fold(jobs)
	if r.built {
		err := r.transactLocked(func(b *batch) { b.change(r.model, c) })
		if err == nil {
			r.model.merge(c)
			return r.dropIfEmptyLocked()
		}
		// Somebody may have changed the table behind our back: write it whole.
		r.log.Warn("packet filter: change refused, writing the table anew", "err", err)
	}
	next := r.model.clone()
	next.merge(c)
	if next.empty() { // nothing to write, and nothing is left behind
		r.model = next
		return r.dropLocked()
	}
	return r.rebuildLocked(next)
}

// rebuildLocked writes the table whole.
func (r *Rules) rebuildLocked(m model) error {
	m.bridged = seesBridges()
	r.gone = false
	err := r.transactLocked(func(b *batch) { b.rebuild(m) })
	if err != nil && m.lasting { // a kernel without CONFIG_NF_CONNTRACK_TIMEOUT, perhaps
		m.lasting = false
		if again := r.transactLocked(func(b *batch) { b.rebuild(m) }); again == nil {
			r.log.Warn("packet filter: idle connections are forgotten after net.netfilter.nf_conntrack_tcp_timeout_established", "err", err)
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	r.model, r.built = m, true
	return nil
}

// seesBridges tells whether frames inside a bridge can pass the packet filter,
// so that answers between its ports are translated back. Links turns it on for
// each of our bridges.
func seesBridges() bool {
	_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil
}

// Clear removes the table.
func (r *Rules) Clear(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone, r.meshed = false, true // whatever we believe
	r.model = newModel()
	return errors.Join(r.meetLocked(), r.dropLocked())
}

// dropIfEmptyLocked leaves no table behind when the last network goes.
func (r *Rules) dropIfEmptyLocked() error {
	if !r.model.empty() {
		return nil
	}
	return r.dropLocked()
}

// dropLocked removes the table, if it may be there.
func (r *Rules) dropLocked() error {
	r.built = false
	if r.gone {
		return nil
	}
	err := r.transactLocked(func(b *batch) { b.any = true; b.c.AddTable(r.table); b.c.DelTable(r.table) })
	r.gone = err == nil
	return err
}

// transactLocked sends what f adds as one transaction.
func (r *Rules) transactLocked(f func(*batch)) error {
	c, err := r.connLocked()
	if err != nil {
		return err
	}
	b := &batch{c: c, t: r.table, host: r.host}
	f(b)
	if err = b.finish(); err == nil && b.any {
		r.writes.Add(1)
		err = c.Flush()
	}
	if err != nil { // answers may still be under way: start with a new socket
		_ = r.conn.CloseLasting()
		r.conn = nil
	}
	return err
}

// connLocked returns the socket, opened when first needed.
func (r *Rules) connLocked() (*nftables.Conn, error) {
	if r.conn == nil {
		c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(largeBuffers))
		if err != nil {
			return nil, fmt.Errorf("open nftables: %w", err)
		}
		r.conn = c
	}
	return r.conn, nil
}

// Writes is how many transactions have been sent.
func (r *Rules) Writes() uint64 { return r.writes.Load() }

// largeBuffers makes room for one transaction with thousands of messages and
// their acknowledgements: the kernel sends all before we read one.
func largeBuffers(c *netlink.Conn) error {
	const most = 64 << 20
	if err := c.SetWriteBuffer(most); err != nil {
		return err
	}
	return c.SetReadBuffer(most)
}
