package events

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

func collect(ch <-chan runtime.Event) []string {
	var ids []string
	for e := range ch {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestSubscribeSeesPastAndFuture(t *testing.T) {
	b := New()
	at := time.Now().Add(-time.Minute)
	for i := range 5 {
		b.Publish(runtime.Event{ID: fmt.Sprint(i), Time: at.Add(time.Duration(i) * time.Second)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ch := b.Subscribe(ctx, at.Add(2*time.Second), time.Time{})
	b.Publish(runtime.Event{ID: "new"})
	for _, want := range []string{"2", "3", "4", "new"} {
		if e := <-ch; e.ID != want {
			t.Fatalf("event %q, want %q", e.ID, want)
		}
	}
	cancel()
	if rest := collect(ch); len(rest) != 0 {
		t.Fatalf("events after the end: %v", rest)
	}
}

func TestSubscribeEndsAtUntil(t *testing.T) {
	b := New()
	now := time.Now()
	b.Publish(runtime.Event{ID: "a", Time: now.Add(-2 * time.Second)})
	b.Publish(runtime.Event{ID: "b", Time: now.Add(-time.Second)})
	got := collect(b.Subscribe(context.Background(), now.Add(-time.Hour), now.Add(-1500*time.Millisecond)))
	if len(got) != 1 || got[0] != "a" {
		t.Fatalf("events %v, want [a]", got)
	}
	ch := b.Subscribe(context.Background(), time.Time{}, time.Now().Add(10*time.Millisecond))
	if got := collect(ch); len(got) != 0 {
		t.Fatalf("events %v, want none", got)
	}
}

func TestRingKeepsTheLast(t *testing.T) {
	b := New()
	for i := range History + 10 {
		b.Publish(runtime.Event{ID: fmt.Sprint(i), Time: time.Unix(int64(i), 0)})
	}
	got := collect(b.Subscribe(context.Background(), time.Unix(0, 1), time.Now()))
	if len(got) != History || got[0] != "10" || got[len(got)-1] != fmt.Sprint(History+9) {
		t.Fatalf("%d events from %s to %s", len(got), got[0], got[len(got)-1])
	}
}

func TestSlowSubscriberIsDropped(t *testing.T) {
	b := New()
	slow := b.Subscribe(context.Background(), time.Time{}, time.Time{})
	for range backlog + 1 {
		b.Publish(runtime.Event{ID: "x"})
	}
	if n := len(collect(slow)); n != backlog {
		t.Fatalf("%d events before the channel closed, want %d", n, backlog)
	}
	if len(b.subs) != 0 {
		t.Fatal("the slow subscriber is still known")
	}
}
