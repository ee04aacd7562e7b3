package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

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
