package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/cluster"
)

// ask sends a request to a node's socket.
func (m *member) ask(t *testing.T, method, path, body string) (*http.Response, string) {
	t.Helper()
	return m.askWithin(t, t.Context(), method, path, body)
}

// askWithin fails the test when there is no answer before ctx ends.
func (m *member) askWithin(t *testing.T, ctx context.Context, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %q", method, path, err, data)
	}
	return resp, string(data)
}

const shop = `{"stack":{"name":"shop","services":{}}}`

// Whatever node is asked, the one that leads does it, and reads say of what state they are.
func TestRequestsGoToTheLeader(t *testing.T) {
	f := newFleet(t, 3)
	for _, m := range f.nodes {
		if resp, body := m.ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 || resp.Header.Get(api.LeaderHeader) != "node1" {
			t.Errorf("%s: apply: %s %s", m.id, resp.Status, body)
		}
		resp, body := m.ask(t, "GET", "/dhow/v1/stacks/shop", "")
		if resp.StatusCode != 200 || !strings.Contains(body, `"shop"`) || resp.Header.Get(api.ConsistencyHeader) != "consistent" || resp.Header.Get(api.IndexHeader) == "" {
			t.Errorf("%s: read: %s %v %s", m.id, resp.Status, resp.Header, body)
		}
		resp, body = m.ask(t, "GET", "/v1.51/nodes", "")
		if resp.StatusCode != 200 || strings.Count(body, `"Hostname"`) != 3 {
			t.Errorf("%s: nodes: %s %s", m.id, resp.Status, body)
		}
	}
	f.lead("")
	for _, m := range f.nodes {
		resp, body := m.ask(t, "GET", "/dhow/v1/stacks/shop?consistency=stale", "")
		if resp.StatusCode != 200 || !strings.Contains(body, `"shop"`) || resp.Header.Get(api.ConsistencyHeader) != "stale" || resp.Header.Get(api.LeaderHeader) != "" {
			t.Errorf("%s: stale read without a leader: %s %v %s", m.id, resp.Status, resp.Header, body)
		}
	}
	if resp, body := f.nodes[0].ask(t, "GET", "/nodes?consistency=old", ""); resp.StatusCode != 400 {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// A leader change is not noticed: neither when there is none for a while, nor
// when the one asked turns out to be none, nor when it is lost midway.
func TestLeaderChangeGoesUnnoticed(t *testing.T) {
	t.Run("none for a while", func(t *testing.T) {
		f := newFleet(t, 3)
		f.lead("")
		time.AfterFunc(700*time.Millisecond, func() { f.lead("node2") })
		if resp, body := f.nodes[2].ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 || resp.Header.Get(api.LeaderHeader) != "node2" {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	t.Run("the one asked is none any more", func(t *testing.T) {
		f := newFleet(t, 3)
		f.nodes[0].onPut = func() error { f.lead("node2"); return fmt.Errorf("apply: %w", cluster.ErrNotLeader) }
		for _, m := range []*member{f.nodes[2], f.nodes[0]} {
			f.lead("node1")
			if resp, body := m.ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 || resp.Header.Get(api.LeaderHeader) != "node2" {
				t.Errorf("%s: %s %s", m.id, resp.Status, body)
			}
		}
	})
	t.Run("cut off", func(t *testing.T) {
		f := newFleet(t, 3)
		f.mark(f.cut, "node1")
		time.AfterFunc(300*time.Millisecond, func() { f.lead("node2") })
		if resp, body := f.nodes[2].ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	t.Run("silent", func(t *testing.T) {
		f := newFleet(t, 3)
		f.mark(f.silent, "node1")
		time.AfterFunc(300*time.Millisecond, func() { f.lead("node2") })
		start := time.Now()
		if resp, body := f.nodes[2].ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 || time.Since(start) > 4*time.Second {
			t.Errorf("after %s: %s %s", time.Since(start), resp.Status, body)
		}
	})
	t.Run("outcome unknown", func(t *testing.T) {
		f := newFleet(t, 3)
		lost := 0
		f.nodes[0].onPut = func() error {
			if lost++; lost%2 == 1 {
				return fmt.Errorf("apply: %w", cluster.ErrLeaderLost)
			}
			return nil
		}
		if resp, body := f.nodes[1].ask(t, "PUT", "/dhow/v1/stacks/shop", shop); resp.StatusCode != 200 {
			t.Errorf("an apply is repeated: %s %s", resp.Status, body)
		}
		if resp, body := f.nodes[1].ask(t, "DELETE", "/dhow/v1/stacks/shop", ""); resp.StatusCode != 204 {
			t.Errorf("a removal that had been done: %s %s", resp.Status, body)
		}
		lost = 0
		resp, body := f.nodes[1].ask(t, "POST", "/networks/create", `{"Name":"net"}`)
		if resp.StatusCode != 503 || !strings.Contains(body, cluster.ErrLeaderLost.Error()) || lost != 1 {
			t.Errorf("what must not be done twice is not repeated: %s %s (%d calls)", resp.Status, body, lost)
		}
	})
}

// Without a leader a request fails, in time and with what is wrong.
func TestNoLeader(t *testing.T) {
	f := newFleet(t, 3)
	f.lead("")
	start := time.Now()
	resp, body := f.nodes[2].ask(t, "PUT", "/dhow/v1/stacks/shop", shop)
	if took := time.Since(start); resp.StatusCode != 503 || !strings.Contains(body, "majority") || took < 4*time.Second || took > 7*time.Second {
		t.Errorf("after %s: %s %s", took, resp.Status, body)
	}
}

// A node that loses its way to the leader midway closes no connection, and hears
// of no other leader: the smaller side of a partition. Who waits there is told
// so, and that nobody knows whether it has been done.
func TestTheLeaderIsOutOfReach(t *testing.T) {
	f := newFleet(t, 3)
	f.mark(f.silent, "node1")
	for method, ask := range map[string]struct{ path, answer string }{
		http.MethodPut: {"/dhow/v1/stacks/shop", "look whether it has been done"},
		http.MethodGet: {"/dhow/v1/stacks/shop/watch", "as far as this node hears"},
	} {
		f.lead("node1")
		time.AfterFunc(300*time.Millisecond, func() { f.lead("") })
		ctx, cancel := context.WithTimeout(t.Context(), 3*leaderPatience)
		resp, body := f.nodes[2].askWithin(t, ctx, method, ask.path, shop)
		cancel()
		if resp.StatusCode != 503 || !strings.Contains(body, ask.answer) {
			t.Errorf("%s %s: %s %s", method, ask.path, resp.Status, body)
		}
	}
}

// A command that the leader may have carried out is not said to be undone, as
// nobody leads after it.
func TestTheLeaderIsLostWithACommand(t *testing.T) {
	f := newFleet(t, 3)
	f.mark(f.silent, "node1")
	f.lead("node1")
	time.AfterFunc(100*time.Millisecond, func() { f.mark(f.down, "node1"); f.lead("") })
	resp, body := f.nodes[2].ask(t, http.MethodPut, "/dhow/v1/stacks/shop", shop)
	if resp.StatusCode != 503 || !strings.Contains(body, "as far as this node hears") || !strings.Contains(body, "look whether it has been done") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// What is forwarded is told by the way it comes in, and goes no further.
func TestForwardedRequestsGoNoFurther(t *testing.T) {
	f := newFleet(t, 3)
	get := func(peer string) (int, string) {
		rt := f.nodes[0].Transport("node2").(stamped)
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/forward/dhow/v1/stacks", nil)
		req.Header.Set("Test-Peer", peer)
		resp, err := rt.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get(api.OutcomeHeader) + string(data)
	}
	if status, body := get("node1"); status != 503 || !strings.HasPrefix(body, api.OutcomeNone) {
		t.Errorf("a node that does not lead passes on what was passed to it: %d %s", status, body)
	}
	if status, body := get("nobody"); status != 403 {
		t.Errorf("no node's certificate: %d %s", status, body)
	}
	if resp, body := f.nodes[0].ask(t, "GET", "/forward/dhow/v1/stacks", ""); resp.StatusCode != 404 {
		t.Errorf("on the socket: %s %s", resp.Status, body)
	}
}

// A watch goes on at the next leader.
func TestWatchOutlivesTheLeader(t *testing.T) {
	f := newFleet(t, 3)
	applied(t, f.stacks, "shop", "/one")
	for _, m := range []*member{f.nodes[2], f.nodes[0]} {
		f.lead("node1")
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://d/dhow/v1/stacks/shop/watch", nil)
		resp, err := m.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		next := func() (st api.StackStatus) {
			t.Helper()
			if !lines.Scan() || json.Unmarshal(lines.Bytes(), &st) != nil {
				t.Fatalf("%s: no line: %v %s", m.id, lines.Err(), lines.Bytes())
			}
			return st
		}
		next()
		f.lead("")
		f.lead("node2")
		if st := next(); st.Stack.Name != "shop" {
			t.Errorf("%s: the first line of another leader has everything: %+v", m.id, st)
		}
		want := applied(t, f.stacks, "shop", "/two")
		if st := next(); st.Index != want || st.Stack.WorkingDir != "/two" {
			t.Errorf("%s: %+v", m.id, st)
		}
		_ = resp.Body.Close()
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://d/dhow/v1/stacks/shop/watch", nil)
	resp, err := f.nodes[2].client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	_, _ = in.ReadString('\n')
	_ = f.stacks.RemoveStack(t.Context(), "shop", cluster.RemoveOptions{})
	if _, err := in.ReadString('\n'); err != io.EOF {
		t.Errorf("a stack that is gone ends its watch well: %v", err)
	}
	if resp, _ := f.nodes[2].ask(t, "GET", "/dhow/v1/stacks/none/watch", ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}

// A watch that cannot go on says why, and is not taken for the end of the stack
// or of the daemon.
func TestWatchSaysWhyItEnds(t *testing.T) {
	f := newFleet(t, 3)
	applied(t, f.stacks, "shop", "/one")
	for _, m := range []*member{f.nodes[2], f.nodes[0]} {
		f.lead("node1")
		c, err := client.Dial("unix://" + m.socket)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = c.WatchStack(t.Context(), "shop", func(api.StackStatus) error { seen++; f.lead(""); return nil })
		if seen != 1 || !client.IsUnavailable(err) || !strings.Contains(err.Error(), "as far as this node hears") {
			t.Errorf("%s: %d states, %v", m.id, seen, err)
		}
		c.Close()
	}
}

// A body of any size goes through, in both directions.
func TestLargeBodies(t *testing.T) {
	f := newFleet(t, 3)
	resp, body := f.nodes[2].ask(t, "GET", "/dhow/v1/swarm/snapshot", "")
	if resp.StatusCode != 200 || len(body) != 800_000 {
		t.Errorf("%s, %d bytes", resp.Status, len(body))
	}
	if resp, body := f.nodes[2].ask(t, "PUT", "/dhow/v1/swarm/snapshot", strings.Repeat("x", 20<<20)); resp.StatusCode != 204 {
		t.Errorf("%s %s", resp.Status, body)
	}
	if got := f.log(); got != fmt.Sprintf("restore %d", 20<<20) {
		t.Error(got)
	}
}
