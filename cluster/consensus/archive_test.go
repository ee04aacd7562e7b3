package consensus

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/dhow-project/dhow/cluster/state"
)

func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	v.write(state.Command{Changes: []state.Change{{Cluster: &state.Cluster{ID: "c1"}}}})
	v.write(put("k", "saved"))
	lead := v.leader()
	var file bytes.Buffer
	h, err := lead.Save(&file, map[string][]byte{"keys": {1, 2}})
	must(t, err)
	if h.Cluster != "c1" || h.Index != lead.Indexes().Applied || h.Term == 0 || time.Since(h.Time) > time.Minute {
		t.Errorf("header %+v", h)
	}
	if got, err := Inspect(bytes.NewReader(file.Bytes())); err != nil || got.SHA256 != h.SHA256 || !bytes.Equal(got.Extra["keys"], []byte{1, 2}) {
		t.Errorf("inspect: %+v, %v", got, err)
	}
	for range 5 {
		v.write(put("k", "later"))
	}
	v.write(put("new", "later"))
	before := lead.Indexes().Applied
	v.steady(func(lead *voter) error {
		for _, o := range v.others(lead.cfg.ID) {
			if _, err := v.node(o).Restore(v.within(10*time.Second), bytes.NewReader(file.Bytes()), nil); !errors.Is(err, ErrNotLeader) {
				return fmt.Errorf("restore on a follower: %w", err)
			}
		}
		_, err := lead.Restore(v.within(30*time.Second), bytes.NewReader(file.Bytes()), nil)
		return err
	})
	v.equal()
	for _, n := range v.all() {
		if get(n.store, "k") != "saved" || get(n.store, "new") != "" || n.Indexes().Applied <= before {
			t.Errorf("%s: %q, %q, applied %d, before %d", n.cfg.ID, get(n.store, "k"), get(n.store, "new"), n.Indexes().Applied, before)
		}
	}
	v.crash(lead.cfg.ID)
	v.write(put("k", "goes on"))
	v.start(lead.cfg.ID, false)
	v.equal()
}

// A manager joins, and the change is not committed yet: a restore waits for it,
// also when nobody else does any more. One that joins later waits for the
// restore.
func TestRestoreWaitsForMembers(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	v.write(put("k", "saved"))
	var file bytes.Buffer
	_, err := v.leader().Save(&file, nil)
	must(t, err)
	restore := func(lead *voter) error {
		_, err := lead.Restore(v.within(30*time.Second), bytes.NewReader(file.Bytes()), nil)
		return err
	}
	tries := 0
	add := func(ctx context.Context, lead *voter) (id string, added chan error) {
		tries++
		id, added = fmt.Sprint("new", tries), make(chan error, 1)
		go func() { added <- lead.AddNonvoter(ctx, id) }()
		return id, added
	}
	begun := func(ctx context.Context, lead *voter) (chan error, error) {
		id, added := add(ctx, lead)
		for _, ok := lead.member(id); !ok; _, ok = lead.member(id) {
			select {
			case err := <-added:
				if err != nil {
					return nil, err
				}
				added <- nil
			case <-time.After(time.Millisecond):
			}
		}
		return added, nil
	}
	v.net.slow(50 * time.Millisecond)
	v.steady(func(lead *voter) error {
		added, err := begun(v.within(20*time.Second), lead)
		if err != nil {
			return err
		}
		return errors.Join(restore(lead), <-added)
	})
	v.steady(func(lead *voter) error {
		ctx, cancel := context.WithCancel(v.within(20 * time.Second))
		defer cancel()
		added, err := begun(ctx, lead)
		if err != nil {
			return err
		}
		cancel()
		<-added // whatever it says
		return restore(lead)
	})
	v.steady(func(lead *voter) error {
		last, restored := lead.raft.LastIndex(), make(chan error, 1)
		go func() { restored <- restore(lead) }()
		for lead.raft.LastIndex() == last {
			select {
			case err := <-restored:
				if err != nil {
					return err
				}
				restored <- nil
			case <-time.After(time.Millisecond):
			}
		}
		time.Sleep(20 * time.Millisecond) // what it waits for is on its way
		_, added := add(v.within(20*time.Second), lead)
		return errors.Join(<-restored, <-added)
	})
	v.net.slow(0)
	v.equal()
}

func TestDamagedArchiveChangesNothing(t *testing.T) {
	l, store := mustOpen(t, t.TempDir())
	mustApply(t, l, 0, 50)
	var file bytes.Buffer
	_, err := l.Save(&file, nil)
	must(t, err)
	want := bytesOf(t, store)
	whole := file.Bytes()
	for at := 0; at < len(whole); at += 7 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x20
		if _, err := l.Restore(t.Context(), bytes.NewReader(bad), nil); err == nil {
			t.Fatalf("byte %d of %d was changed, and nobody noticed", at, len(whole))
		}
		if _, err := Inspect(bytes.NewReader(whole[:at])); err == nil {
			t.Fatalf("cut off at %d of %d, and nobody noticed", at, len(whole))
		}
	}
	if !bytes.Equal(bytesOf(t, store), want) {
		t.Error("the state has changed")
	}
	if left, err := filepath.Glob(filepath.Join(l.cfg.Dir, "restore-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	mustClose(t, l)
}

// keptLog never deletes, as a daemon that is killed just before.
type keptLog struct{ raft.LogStore }

func (keptLog) DeleteRange(uint64, uint64) error { return errBroken }

func TestKilledBetweenSnapshotAndLog(t *testing.T) {
	long, _ := mustOpen(t, t.TempDir())
	mustApply(t, long, 0, 200)
	var file bytes.Buffer
	_, err := long.Save(&file, nil)
	must(t, err)
	mustClose(t, long)

	cfg := Config{Dir: t.TempDir(), ID: "two", Store: state.New(), WrapLog: func(s raft.LogStore) raft.LogStore { return keptLog{s} }}
	l, err := Open(cfg)
	must(t, err)
	mustApply(t, l, 0, 5)
	if _, err := l.Restore(t.Context(), &file, nil); err == nil {
		t.Error("stored behind a gap") // nothing was acknowledged
	}
	mustClose(t, l)
	cfg.WrapLog, cfg.Store = nil, state.New()
	l, err = Open(cfg)
	must(t, err)
	mustApply(t, l, 200, 210)
	if n := len(cfg.Store.Snapshot().Tasks("s")); n != 210 {
		t.Errorf("%d tasks", n)
	}
	mustClose(t, l)
}

func TestRecoverFromLostQuorum(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, nil)
	for i := range 100 {
		v.write(command(i))
	}
	v.equal()
	want := bytesOf(t, v.node("b").store)
	v.crash("a")
	v.crash("c")
	b := v.node("b")
	if _, err := b.Apply(v.within(2*time.Second), command(1000)); err == nil {
		t.Error("stored without a majority")
	}
	v.stopNode("b")
	cfg := Config{Dir: filepath.Join(v.dir, "b"), ID: "b"}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "voters") {
		t.Errorf("one of three opened alone: %v", err)
	}
	must(t, Recover(cfg))
	must(t, Recover(cfg)) // as after a crash in the middle
	b = v.start("b", false)
	if !b.Leading() || !bytes.HasPrefix(bytesOf(t, b.store), want[:20]) || len(b.store.Snapshot().Tasks("s")) < 100 {
		t.Errorf("leads: %t, %d tasks", b.Leading(), len(b.store.Snapshot().Tasks("s")))
	}
	v.ids = []string{"b"}
	v.write(put("k", "v"))
	v.join("d")
	v.join("e")
	v.acquainted()
	v.crash("b")
	v.write(put("k", "w"))
	v.start("b", false)
	v.equal()
}

// sealed encrypts the entries of the store below it.
type sealed struct {
	raft.LogStore
	aead cipher.AEAD
}

func (s sealed) StoreLog(e *raft.Log) error { return s.StoreLogs([]*raft.Log{e}) }

func (s sealed) StoreLogs(entries []*raft.Log) error {
	out := make([]*raft.Log, len(entries))
	for i, e := range entries {
		c := *e
		c.Data = s.aead.Seal(nil, make([]byte, 12), e.Data, nil)
		out[i] = &c
	}
	return s.LogStore.StoreLogs(out)
}

func (s sealed) GetLog(index uint64, e *raft.Log) error {
	if err := s.LogStore.GetLog(index, e); err != nil {
		return err
	}
	var err error
	e.Data, err = s.aead.Open(nil, make([]byte, 12), e.Data, nil)
	return err
}

func TestWrappedLog(t *testing.T) {
	t.Parallel()
	v := mustVoters(t, 3, func(c *Config) {
		block, err := aes.NewCipher(bytes.Repeat([]byte(c.ID), 16))
		must(t, err)
		aead, err := cipher.NewGCM(block)
		must(t, err)
		c.WrapLog = func(s raft.LogStore) raft.LogStore { return sealed{s, aead} }
	})
	for range 10 {
		v.write(put("k", "plaintext"))
	}
	v.equal()
	for _, id := range v.ids {
		v.crash(id)
		segments, err := filepath.Glob(filepath.Join(v.dir, id, "raft", "*.wal"))
		must(t, err)
		for _, name := range segments {
			data, err := os.ReadFile(name)
			must(t, err)
			if bytes.Contains(data, []byte("put")) || bytes.Contains(data, []byte("changes")) {
				t.Errorf("%s can be read", name)
			}
		}
		if _, err := Open(Config{Dir: filepath.Join(v.dir, id), ID: id, Stream: v.net.listen(id)}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("opened without the key: %v", err)
		}
	}
	for _, id := range v.ids {
		v.start(id, false)
	}
	v.equal()
}

// A directory of the time when terms and votes were kept in the log's own
// database, and one voter alone was all there was.
func TestOlderDirectoryOpens(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "raft")
	must(t, os.MkdirAll(sub, 0o700))
	meta := &metadb.BoltMetaDB{}
	w, err := wal.Open(sub, wal.WithMetaStore(meta), wal.WithSegmentSize(segmentSize))
	must(t, err)
	entries := []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(onlyVoter("one"))}}
	for i := range 30 {
		data, err := command(i).Encode()
		must(t, err)
		entries = append(entries, &raft.Log{Index: uint64(i) + 2, Term: 5, Data: data})
	}
	must(t, w.StoreLogs(entries))
	must(t, errors.Join(w.SetUint64([]byte(keyTerm), 5), w.SetUint64([]byte(keyVoteTerm), 5), w.Set([]byte(keyCandidate), []byte("one"))))
	must(t, errors.Join(w.Close(), meta.Close()))
	l, store := mustOpen(t, dir)
	if n := len(store.Snapshot().Tasks("s")); n != 30 || l.Indexes().Term != 6 {
		t.Errorf("%d tasks, term %d", n, l.Indexes().Term)
	}
	mustApply(t, l, 30, 40)
	mustClose(t, l)
	l, store = mustOpen(t, dir)
	if n := len(store.Snapshot().Tasks("s")); n != 40 || l.Indexes().Term != 7 {
		t.Errorf("%d tasks, term %d", n, l.Indexes().Term)
	}
	mustClose(t, l)
}

func TestVoteSurvivesATornWrite(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, (Config{}).withDefaults().Log)
	must(t, err)
	v, err := openVote(dir, s)
	must(t, err)
	must(t, v.SetUint64([]byte(keyTerm), 3))
	must(t, v.SetUint64([]byte(keyVoteTerm), 3))
	must(t, v.Set([]byte(keyCandidate), []byte("b")))
	must(t, v.SetUint64([]byte(keyTerm), 4))
	newest := int64(v.now.seq%2) * slotSize
	must(t, v.Close())
	tear := func(at int64) {
		f, err := os.OpenFile(filepath.Join(dir, "vote"), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("torn"), at+10)
		must(t, errors.Join(err, f.Close()))
	}
	tear(newest)
	v, err = openVote(dir, s)
	must(t, err)
	term, _ := v.GetUint64([]byte(keyTerm))
	who, _ := v.Get([]byte(keyCandidate))
	if term != 3 || string(who) != "b" {
		t.Errorf("term %d, vote for %q", term, who)
	}
	must(t, v.Close())
	tear(slotSize - newest)
	if _, err := openVote(dir, s); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("opened: %v", err)
	}
	must(t, s.Close())
}
