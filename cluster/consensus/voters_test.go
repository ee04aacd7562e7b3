package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// voters is a cluster in one process.
type voters struct {
	t   testing.TB
	net *network
	dir string
	cfg func(*Config) // may change each node's Config

	mu    sync.Mutex
	nodes map[string]*voter // guarded by mu; those that run
	ids   []string
}

type voter struct {
	*Log
	store *state.Store
}

// mustVoters starts n voters a, b, c... They are closed with the test.
func mustVoters(t testing.TB, n int, cfg func(*Config)) *voters {
	t.Helper()
	v := &voters{t: t, net: newNetwork(), dir: t.TempDir(), cfg: cfg, nodes: map[string]*voter{}}
	t.Cleanup(v.close)
	for i := range n {
		v.join(string(rune('a' + i)))
	}
	v.acquainted()
	return v
}

// acquainted waits until all nodes know that all are voters. One that does not
// know it of another yet has no vote for it: should the leader go in that
// moment, the two that are left wait for it.
func (v *voters) acquainted() {
	v.t.Helper()
	ctx := v.within(30 * time.Second)
	for _, n := range v.all() {
		known := func() (count int) {
			for _, m := range n.Members() {
				if m.Voter {
					count++
				}
			}
			return count
		}
		for known() != len(v.ids) {
			v.poll(ctx, n.cfg.ID+" to know all voters")
		}
	}
}

// join starts a node and makes it a voter.
func (v *voters) join(id string) *voter {
	v.t.Helper()
	n := v.start(id, len(v.ids) > 0)
	if v.ids = append(v.ids, id); len(v.ids) > 1 {
		v.steady(func(lead *voter) error { return lead.AddVoter(v.within(20*time.Second), id) })
	}
	return n
}

// steady does with the leader what can be done again, or checks something of it.
// On a busy machine a leader may lose its lead at any moment; what went wrong in
// that case says nothing, and the next leader is asked.
func (v *voters) steady(do func(lead *voter) error) {
	v.t.Helper()
	ctx := v.within(60 * time.Second)
	for {
		lead := v.leader()
		term := lead.Indexes().Term
		err := do(lead)
		if err == nil {
			return
		}
		if lead.Verify(ctx) == nil && lead.Indexes().Term == term {
			v.t.Fatal(err)
		}
		v.poll(ctx, "a leader that stays: "+err.Error())
	}
}

// lost reports whether a command was refused because the leader had lost its
// lead before: it does not say what the test is about.
func lost(err error) bool { return errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrOutcomeUnknown) }

func (v *voters) start(id string, join bool) *voter {
	v.t.Helper()
	n, err := v.tryStart(id, join)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

func (v *voters) tryStart(id string, join bool) (*voter, error) {
	c := Config{Dir: filepath.Join(v.dir, id), ID: id, Store: state.New(), Stream: v.net.listen(id), Join: join, SnapshotThreshold: 64, TrailingLogs: 16}
	c.Log = slog.New(slog.NewTextHandler(&logFile{v, id}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if v.cfg != nil {
		v.cfg(&c)
	}
	l, err := Open(c)
	if err != nil {
		return nil, err
	}
	n := &voter{l, c.Store}
	v.mu.Lock()
	v.nodes[id] = n
	v.mu.Unlock()
	return n, nil
}

// logFile gives a node's warnings to a test that is verbose.
type logFile struct {
	v  *voters
	id string
}

func (f *logFile) Write(b []byte) (int, error) {
	if testing.Verbose() && verbose {
		fmt.Printf("%s: %s", f.id, b)
	}
	return len(b), nil
}

var verbose = false // set it to see what raft warns of

// crash ends a node as kill -9 would: it says no word to the others.
func (v *voters) crash(id string) {
	v.mu.Lock()
	n := v.nodes[id]
	delete(v.nodes, id)
	v.mu.Unlock()
	if n == nil {
		return
	}
	v.net.kill(id)
	if err := n.stop(); err != nil {
		v.t.Errorf("crash %s: %v", id, err)
	}
}

func (v *voters) stopNode(id string) {
	v.mu.Lock()
	n := v.nodes[id]
	delete(v.nodes, id)
	v.mu.Unlock()
	if err := n.Close(); err != nil {
		v.t.Errorf("close %s: %v", id, err)
	}
}

func (v *voters) close() {
	v.net.heal()
	for _, id := range v.ids {
		v.crash(id)
	}
}

func (v *voters) node(id string) *voter {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.nodes[id]
}

// all returns the running nodes, by ID.
func (v *voters) all() []*voter {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*voter
	for _, id := range v.ids {
		if n := v.nodes[id]; n != nil {
			out = append(out, n)
		}
	}
	return out
}

func (v *voters) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	v.t.Cleanup(cancel)
	return ctx
}

// leader waits for a node that leads and can prove it.
func (v *voters) leader(not ...string) *voter {
	v.t.Helper()
	ctx := v.within(60 * time.Second)
	for {
		for _, n := range v.all() {
			short, cancel := context.WithTimeout(ctx, time.Second)
			ok := !slices.Contains(not, n.cfg.ID) && n.Leading() && n.Verify(short) == nil
			cancel()
			if ok {
				return n
			}
		}
		v.poll(ctx, "a leader")
	}
}

func (v *voters) poll(ctx context.Context, what string) {
	v.t.Helper()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
		for _, n := range v.all() {
			v.t.Logf("%s: %s, leader %q, %+v, members %v", n.cfg.ID, n.raft.State(), n.Leader(), n.Indexes(), n.Members())
		}
		v.t.Fatalf("waited in vain for %s", what)
	}
}

func (v *voters) others(id string) []string {
	return slices.DeleteFunc(slices.Clone(v.ids), func(o string) bool { return o == id })
}

// write gives a command to whoever leads until it is stored.
func (v *voters) write(cmd state.Command) *voter {
	v.t.Helper()
	ctx := v.within(60 * time.Second)
	for {
		for _, n := range v.all() {
			if !n.Leading() {
				continue
			}
			short, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err := n.Apply(short, cmd)
			cancel()
			if err == nil {
				return n
			}
		}
		v.poll(ctx, "a command to be stored")
	}
}

// equal waits until all running nodes have applied the same, and compares their bytes.
func (v *voters) equal() {
	v.t.Helper()
	ctx := v.within(60 * time.Second)
	v.write(state.Command{Time: 1})
	for {
		want := v.leader().Indexes().Applied
		same := true
		for _, n := range v.all() {
			same = same && n.Indexes().Applied == want
		}
		if same {
			break
		}
		v.poll(ctx, "all to have applied the same")
	}
	all := v.all()
	for _, n := range all[1:] {
		if a, b := bytesOf(v.t, all[0].store), bytesOf(v.t, n.store); !bytes.Equal(a, b) {
			v.t.Fatalf("states of %s and %s differ: %d and %d bytes\n%s\n%s", all[0].cfg.ID, n.cfg.ID, len(a), len(b), a, b)
		}
	}
}

// put sets a register.
func put(key, value string) state.Command {
	return state.Command{Changes: []state.Change{{Config: &state.Config{Name: key, Spec: stack.Config{Name: key, Data: []byte(value)}}}}}
}

func get(s *state.Store, key string) string {
	if c := s.Snapshot().Config(key); c != nil {
		return string(c.Spec.Data)
	}
	return ""
}
