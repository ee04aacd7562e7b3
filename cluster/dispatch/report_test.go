package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func running(n int) []stack.TaskReport {
	var out []stack.TaskReport
	for i := range n {
		out = append(out, stack.TaskReport{Task: fmt.Sprint("t", i), Status: stack.TaskStatus{State: stack.TaskRunning}})
	}
	return out
}

// TestAReportIsStoredOrAnError: never lost without a word.
func TestAReportIsStoredOrAnError(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	core := newCore()
	stop := w.lead("m1", core)
	c := w.client("n1", nil)
	if err := c.Report(t.Context(), running(1500)); err != nil {
		t.Fatal(err)
	}
	if n := len(core.statuses); n != 1500 {
		t.Errorf("%d of 1500 statuses are stored", n)
	}

	core.mu.Lock()
	core.report = func(context.Context, string, []stack.TaskReport) error { return errors.New("the log is full") }
	core.mu.Unlock()
	if err := c.Report(t.Context(), running(1)); err == nil || !strings.Contains(err.Error(), "the log is full") {
		t.Errorf("the leader could not store it: %v", err)
	}

	// The leader goes while a report is under way.
	arrived := make(chan struct{}, 1)
	core.mu.Lock()
	core.report = func(ctx context.Context, _ string, _ []stack.TaskReport) error {
		arrived <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	core.mu.Unlock()
	failed := make(chan error, 1)
	go func() { failed <- c.Report(t.Context(), running(1)) }()
	<-arrived
	w.sever("m1")
	if err := <-failed; err == nil {
		t.Error("the leader was lost, and no error")
	}
	w.elect("")
	stop()
	core.mu.Lock()
	core.report = nil
	clear(core.statuses)
	core.mu.Unlock()
	go func() { failed <- c.Report(t.Context(), running(3)) }() // waits for the next one
	w.lead("m2", core)
	if err := <-failed; err != nil {
		t.Errorf("after the change: %v", err)
	}
	if n := len(core.statuses); n != 3 {
		t.Errorf("%d of 3 statuses are stored", n)
	}
}

// TestASlowStateStopsNoHeartbeat: reports wait, leases do not end.
func TestASlowStateStopsNoHeartbeat(t *testing.T) {
	w := newWorld(t)
	w.add("m1", quick)
	core := newCore()
	release := make(chan struct{})
	core.report = func(ctx context.Context, _ string, _ []stack.TaskReport) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}
	w.lead("m1", core)
	c := w.client("n1", nil)
	eventually(t, "a lease", func() bool { ok, _ := c.Lease(); return ok })
	gaveUp, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- c.Report(gaveUp, running(1)) }()
	_, first := c.Lease()
	eventually(t, "leases while a report waits", func() bool {
		ok, until := c.Lease()
		return ok && until.Sub(first) > time.Second
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	go func() { done <- c.Report(t.Context(), running(2)) }()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("after one that was given up: %v", err)
	}
	if c.Leader() != "m1" {
		t.Error("the session ended")
	}
}

// TestNonsenseIsLeftOut, and costs the rest nothing.
func TestNonsenseIsLeftOut(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	w.lead("m1", core)
	c := w.client("n1", nil)
	list := running(3)
	list[0].Task = ""
	list[1].Status.State = 1000
	list[2].Status.Message = strings.Repeat("é", maxMessageText)
	if err := c.Report(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	core.mu.Lock()
	defer core.mu.Unlock()
	if len(core.statuses) != 1 || len(core.statuses["t2"].Message) > maxMessageText {
		t.Errorf("stored are %d statuses", len(core.statuses))
	}
}

// TestADescriptionIsTold at the start and when it changes.
func TestADescriptionIsTold(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	w.lead("m1", core)
	images := make(chan []string, 1)
	images <- []string{"sha256:1"}
	c := w.client("n1", func(cfg *ClientConfig) {
		cfg.Describe = func() Description {
			list := <-images
			images <- list
			return Description{Images: list}
		}
	})
	told := func(want string) func() bool {
		return func() bool {
			core.mu.Lock()
			defer core.mu.Unlock()
			d := core.hellos["n1"]
			s := w.hosts["m1"].server.Sessions()["n1"].Description
			return len(d.Images) == 1 && d.Images[0] == want && len(s.Images) == 1 && s.Images[0] == want
		}
	}
	eventually(t, "the first image", told("sha256:1"))
	<-images
	images <- []string{"sha256:2"}
	c.Refresh()
	eventually(t, "the second image", told("sha256:2"))
}
