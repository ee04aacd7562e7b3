package dispatch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dhow-project/dhow/stack"
)

// kept makes a file with two tasks, one of which has a secret.
func kept(t *testing.T) (path string, want []stack.Assignment) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "assignments.json")
	w := newWorld(t, "m1")
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web", Container: stack.ContainerSpec{Image: "web:1"}}
	a := task("t1", svc, st)
	a.Secrets, a.Configs = map[string][]byte{"key": []byte("hush-hush")}, map[string][]byte{"conf": []byte("open")}
	a.Auth = &stack.RegistryAuth{Username: "ann", Password: "open-sesame"}
	core.place("n1", a, task("t2", svc, st))
	core.setView(View{Cluster: "c1", Keys: [][]byte{[]byte("gossip-key")}, Networks: []stack.Network{{Name: "front"}}, Nodes: []Node{{ID: "m1", Role: stack.RoleManager}}})
	w.lead("m1", core)
	c := w.client("n1", func(cfg *ClientConfig) { cfg.Cache = path })
	<-c.Ready()
	if err := c.Report(t.Context(), []stack.TaskReport{{Task: "t2", Status: stack.TaskStatus{State: stack.TaskRunning, ContainerID: "abc"}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the status in the file", func() bool {
		data, err := os.ReadFile(path)
		return err == nil && bytes.Contains(data, []byte("abc"))
	})
	want = c.Assignments("n1")
	want[0].Secrets, want[0].Auth = map[string][]byte{}, nil
	return path, want
}

func TestTheTasksAreKeptForAStartWithoutManagers(t *testing.T) {
	path, want := kept(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"hush-hush", "open-sesame", "aHVzaC1odXNo", "Z29zc2lwLWtleQ"} { // plain, and as JSON has bytes
		if bytes.Contains(data, []byte(s)) {
			t.Errorf("%q stands in the file", s)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	c := newWorld(t, "m1").client("n1", func(cfg *ClientConfig) { cfg.Cache = path })
	select {
	case <-c.Ready():
		t.Fatal("what is kept counts before a leader had time to answer")
	default:
	}
	<-c.Ready()
	if diff := cmp.Diff(want, c.Assignments("n1")); diff != "" {
		t.Error(diff)
	}
	if v := c.View(); len(v.Networks) != 1 || len(v.Managers()) != 1 || len(v.Keys) != 0 {
		t.Errorf("view %+v", v)
	}

	// The next leader's word replaces it, with secrets.
	w := newWorld(t, "m1")
	core := newCore()
	a := want[0]
	a.Secrets = map[string][]byte{"key": []byte("hush-hush")}
	core.place("n1", a)
	w.lead("m1", core)
	next := w.client("n1", func(cfg *ClientConfig) { cfg.Cache = path })
	<-next.Ready() // nobody acts on what is kept when there is a leader
	if list := next.Assignments("n1"); len(list) != 1 || string(list[0].Secrets["key"]) != "hush-hush" {
		t.Errorf("the first that counts is %+v, want t1 alone, with its secret", list)
	}
}

func TestAFileThatCannotBeUsedIsAsGoodAsNone(t *testing.T) {
	path, _ := kept(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := bytes.Replace(data, []byte("web:1"), []byte("web:2"), 1)
	for name, c := range map[string]struct {
		data    []byte
		cluster string
		node    string
	}{
		"torn":            {data[:len(data)/2], "c1", "n1"},
		"empty":           {nil, "c1", "n1"},
		"changed":         {flip, "c1", "n1"},
		"other cluster":   {data, "c2", "n1"},
		"other node":      {data, "c1", "n2"},
		"other format":    {bytes.Replace(data, []byte(`"format":1`), []byte(`"format":9`), 1), "c1", "n1"},
		"no JSON, binary": {bytes.Repeat([]byte{0}, 100), "c1", "n1"},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		client := NewClient(ClientConfig{Node: c.node, Cluster: c.cluster, Cache: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		select {
		case <-client.Ready():
			t.Errorf("%s: it was used", name)
		default:
		}
		if !strings.Contains(log.String(), "not known until a manager answers") {
			t.Errorf("%s: no warning in %q", name, log.String())
		}
	}
}

// TestWhatIsKnownAtTheEndIsKept, however soon after it was told the end comes.
func TestWhatIsKnownAtTheEndIsKept(t *testing.T) {
	for i := range 20 {
		m := newMirror()
		c := newCache(filepath.Join(t.TempDir(), "f"), "c1", "n1", m, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		m.set(told{index: uint64(i + 1), view: &View{Cluster: "c1"}})
		c.poke()
		cancel()
		c.run(ctx)
		next := newMirror()
		newCache(c.path, "c1", "n1", next, slog.New(slog.DiscardHandler)).load()
		if v, at := next.shown(); v.Cluster != "c1" || at != uint64(i+1) {
			t.Fatalf("kept: %+v at %d", v, at)
		}
	}
}

// TestAKilledWriteLeavesNothing for ever.
func TestAKilledWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".f.123", ".f.x", "g", ".g.1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	newCache(filepath.Join(dir, "f"), "c1", "n1", newMirror(), slog.New(slog.DiscardHandler)).run(ctx)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 || list[0].Name() != ".g.1" || list[1].Name() != "g" {
		t.Errorf("%v, %v", list, err)
	}
}

// TestTheFileIsOldOrNew whatever step of its writing is the last one.
func TestTheFileIsOldOrNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := replace(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	// A name that cannot be replaced: what was prepared goes again.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replace(filepath.Join(dir, "d"), []byte("new")); err == nil {
		t.Error("a folder was replaced")
	}
	if err := replace(filepath.Join(dir, "none", "f"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
