package consensus

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// mustSmallDisk mounts a disk of some bytes at dir, which it makes.
func mustSmallDisk(t *testing.T, dir string, size string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	must(t, os.MkdirAll(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}

// mustFill leaves no byte free in dir; the function returned frees it again.
func mustFill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	return func() { must(t, os.Remove(name)) }
}

var quarterMB = strings.Repeat("x", 256<<10)

// The leader's disk fills up: it steps down, the others go on, and it catches up
// when there is space again, without a restart.
func TestFullDiskOfOneManager(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := &voters{t: t, net: newNetwork(), dir: dir, nodes: map[string]*voter{}}
	for _, id := range []string{"a", "b", "c"} {
		mustSmallDisk(t, filepath.Join(dir, id), "40m")
	}
	t.Cleanup(v.close)
	for _, id := range []string{"a", "b", "c"} {
		v.join(id)
	}
	v.acquainted()
	full := v.leader().cfg.ID
	free := mustFill(t, filepath.Join(dir, full))
	start, slowest := time.Now(), time.Duration(0)
	for range 60 { // more than a segment of the log
		one := time.Now()
		v.write(put("big", quarterMB))
		slowest = max(slowest, time.Since(one))
	}
	t.Logf("60 commands in %s, the slowest took %s", time.Since(start).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if lead := v.leader().cfg.ID; lead == full {
		t.Error("who cannot write still leads")
	}
	free()
	v.equal()
	v.crash(full)
	v.start(full, false)
	v.equal()
}

// One manager alone with a full disk says so, and goes on when there is space.
func TestFullDiskAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "one")
	mustSmallDisk(t, dir, "24m")
	store := state.New()
	l, err := Open(Config{Dir: dir, ID: "one", Store: store})
	must(t, err)
	free := mustFill(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for err == nil {
		_, err = l.Apply(ctx, put("big", quarterMB))
	}
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("full disk: %v", err)
	}
	if _, err := l.Apply(ctx, put("k", "v")); err == nil || !strings.Contains(err.Error(), "space") {
		t.Errorf("full disk, next command: %v", err)
	}
	free()
	for {
		if _, err = l.Apply(ctx, put("k", "v")); err == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-l.LeaderChanged():
		case <-ctx.Done():
		}
	}
	if err != nil || get(store, "k") != "v" {
		t.Errorf("with space again: %v", err)
	}
	want := bytesOf(t, store)
	mustClose(t, l)
	store = state.New()
	l, err = Open(Config{Dir: dir, ID: "one", Store: store})
	must(t, err)
	if string(bytesOf(t, store)) != string(want) {
		t.Error("state differs after restart")
	}
	mustClose(t, l)
}

// hungStore is a disk that can stop to answer.
type hungStore struct {
	raft.LogStore
	hang atomic.Pointer[chan struct{}] // writes wait for it
	fail atomic.Bool                   // writes fail
}

var errBroken = errors.New("input/output error")

func (s *hungStore) StoreLogs(e []*raft.Log) error {
	if c := s.hang.Load(); c != nil {
		<-*c
	}
	if s.fail.Load() {
		return errBroken
	}
	return s.LogStore.StoreLogs(e)
}

func (s *hungStore) StoreLog(e *raft.Log) error { return s.StoreLogs([]*raft.Log{e}) }

// The leader's disk does not answer: the others stop to wait for it.
func TestHungDiskOfLeader(t *testing.T) {
	t.Parallel()
	disks := map[string]*hungStore{}
	v := mustVoters(t, 3, func(c *Config) {
		c.WrapLog = func(s raft.LogStore) raft.LogStore {
			disks[c.ID] = &hungStore{LogStore: s}
			return disks[c.ID]
		}
	})
	v.write(put("k", "1"))
	var was *voter
	v.steady(func(lead *voter) error {
		was = lead
		hung := make(chan struct{})
		disks[lead.cfg.ID].hang.Store(&hung)
		start := time.Now()
		result := make(chan error, 1)
		go func() {
			_, err := lead.Apply(v.within(60*time.Second), put("k", "on a hung disk"))
			result <- err
		}()
		v.leader(lead.cfg.ID)
		v.write(put("k", "2"))
		t.Logf("leader's disk hangs, next write after %s", time.Since(start).Round(time.Millisecond))
		disks[lead.cfg.ID].hang.Store(nil)
		close(hung)
		err := <-result
		if lost(err) {
			return err
		}
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("command on the hung disk: %v", err)
		}
		return nil
	})
	v.equal()
	if got := get(was.store, "k"); got != "2" {
		t.Errorf("k is %q", got)
	}
}

// A leader whose disk fails leaves the lead, does not take it back, and follows
// when its disk works.
func TestFailingDiskOfLeader(t *testing.T) {
	t.Parallel()
	disks := map[string]*hungStore{}
	v := mustVoters(t, 3, func(c *Config) {
		c.WrapLog = func(s raft.LogStore) raft.LogStore {
			disks[c.ID] = &hungStore{LogStore: s}
			return disks[c.ID]
		}
	})
	v.steady(func(lead *voter) error {
		disk := disks[lead.cfg.ID]
		disk.fail.Store(true)
		defer disk.fail.Store(false)
		_, err := lead.Apply(v.within(20*time.Second), put("k", "1"))
		if lost(err) {
			return err
		}
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, errBroken) {
			t.Errorf("command on a failing disk: %v", err)
		}
		start := time.Now()
		v.write(put("k", "2"))
		t.Logf("leader's disk fails, next write after %s", time.Since(start).Round(time.Millisecond))
		if v.leader() == lead {
			t.Error("it leads again")
		}
		return nil
	})
	v.equal()
}

// badBallots fails to store terms for a while.
type badBallots struct {
	raft.StableStore
	fail atomic.Bool
	term atomic.Uint64
}

func (b *badBallots) SetUint64(_ []byte, n uint64) error {
	if b.fail.Load() {
		return errBroken
	}
	b.term.Store(n)
	return nil
}

func TestTermThatCannotBeStored(t *testing.T) {
	b := &badBallots{}
	b.fail.Store(true)
	g := newGuard(nil, b, slog.New(slog.DiscardHandler))
	closed, silent := make(chan struct{}), make(chan bool, 4)
	g.closed, g.silent = closed, func(on bool) { silent <- on }
	done := make(chan error, 1)
	go func() { done <- g.SetUint64([]byte(keyTerm), 7) }()
	if on := <-silent; !on {
		t.Fatal("it speaks")
	}
	b.fail.Store(false)
	if err := <-done; err != nil || b.term.Load() != 7 || <-silent {
		t.Errorf("term %d, %v", b.term.Load(), err)
	}
	b.fail.Store(true)
	go func() { done <- g.SetUint64([]byte(keyTerm), 8) }()
	<-silent
	close(closed)
	if err := <-done; err != nil { // raft would panic
		t.Error(err)
	}
	if err := g.Set([]byte(keyCandidate), nil); err == nil {
		t.Error("a vote in a term that is not stored was stored")
	}
	if err := g.StoreLogs([]*raft.Log{{Index: 1}}); err == nil {
		t.Error("an entry of a term that is not stored was stored")
	}
}
