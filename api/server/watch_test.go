package server

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

func applied(t *testing.T, f *fakeStacks, name, dir string) uint64 {
	t.Helper()
	_, index, err := f.Deploy(context.Background(), cluster.Deployment{Stack: stack.Stack{Name: name, WorkingDir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// A watch says what has changed of its own stack, with the definition when that
// has, and is not concerned with other stacks.
func TestWatchSendsWhatChanged(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	applied(t, w.stacks, "shop", "/one")
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/dhow/v1/stacks/shop/watch", nil)
	resp, err := w.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(index uint64, dir string) {
		t.Helper()
		var st api.StackStatus
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &st) != nil {
			t.Fatalf("no line: %v %s", lines.Err(), lines.Bytes())
		}
		if st.Index != index || st.Stack.WorkingDir != dir || dir == "" && strings.Contains(lines.Text(), `"stack":`) {
			t.Errorf("want index %d, dir %q: %s", index, dir, lines.Text())
		}
	}
	next(1, "/one")
	for range 10 {
		applied(t, w.stacks, "other", "/")
	}
	_ = w.stacks.Scale(ctx, "shop", nil)
	next(12, "")
	next(applied(t, w.stacks, "shop", "/two"), "/two")
	w.stacks.mu.Lock()
	defer w.stacks.mu.Unlock()
	if w.stacks.given != 3 {
		t.Errorf("%d statuses were made for 3 lines", w.stacks.given)
	}
}

// The client gives the whole status each time.
func TestClientKeepsTheDefinition(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	applied(t, w.stacks, "shop", "/one")
	c, err := client.Dial("unix://" + w.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var seen []string
	steps := []func(){
		func() { _ = w.stacks.Scale(ctx, "shop", nil) },
		func() { applied(t, w.stacks, "shop", "/two") },
		func() { _ = w.stacks.Scale(ctx, "shop", nil) },
		func() { _ = w.stacks.RemoveStack(ctx, "shop", cluster.RemoveOptions{}) },
	}
	err = c.WatchStack(ctx, "shop", func(st api.StackStatus) error {
		seen = append(seen, st.Stack.Name+st.Stack.WorkingDir)
		steps[0]()
		steps = steps[1:]
		return nil
	})
	if got := strings.Join(seen, " "); err != nil || got != "shop/one shop/one shop/two shop/two" {
		t.Errorf("%s, %v", got, err)
	}
}
