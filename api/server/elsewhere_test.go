package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

// ran makes a container that runs on a node.
func (m *member) ran(t *testing.T, name string, command ...string) string {
	t.Helper()
	ctx := context.Background()
	id, _, err := m.engine.Create(ctx, name, stack.ContainerSpec{Image: "busybox", Command: command, OpenStdin: true, StdinOnce: true})
	if err == nil {
		err = m.engine.Start(ctx, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A container is reached from any node, whether a task's or made by hand, with
// the real docker command line: streams and their ends included.
func TestContainersOnOtherNodes(t *testing.T) {
	f := newFleet(t, 3)
	for range 3 { // IDs of different nodes differ
		f.nodes[1].ran(t, fmt.Sprintf("filler%d", time.Now().UnixNano()), "sleep", "1000")
	}
	id := f.nodes[1].ran(t, "app", "sleep", "1000")
	f.place("app", cluster.Location{Node: "node2", Container: id})
	_ = f.nodes[1].engine.Print("app", "stdout", "first")
	f.nodes[1].engine.OnExec(execByName)
	for _, m := range []*member{f.nodes[0], f.nodes[2], f.nodes[1]} {
		c := newCLI(t, m.socket)
		c.run(words("inspect app"), id)
		c.run(words("logs app"), "first")
		c.run(words("exec app yes"), "yes!")
		in := c.command("exec", "-i", "app", "cat")
		in.Stdin = strings.NewReader("through")
		if got, err := in.Output(); err != nil || string(got) != "through" {
			t.Errorf("%s: exec -i cat: %q, %v", m.id, got, err)
		}
		fail := c.command("exec", "app", "no")
		if err := fail.Run(); fail.ProcessState.ExitCode() != 127 {
			t.Errorf("%s: exec of a missing command: %v", m.id, err)
		}
		c.run(words("exec -d app yes"))
		c.run(words("top app"), "PID")
		c.run(words("kill -s HUP app"))
		c.fails(words("inspect gone"), "gone")
		c.fails(words("exec gone yes"), "No such container: gone")
	}

	f.nodes[1].ran(t, "echo", "cat") // made by hand: no state knows of it
	c := newCLI(t, f.nodes[0].socket)
	attach := c.command("attach", "echo")
	attach.Stdin = strings.NewReader("hello")
	if got, err := attach.Output(); err != nil || string(got) != "hello" {
		t.Errorf("attach: %q, %v", got, err)
	}
	c.run(words("rm -f app"))
	if _, err := f.nodes[1].engine.Inspect(t.Context(), "app"); err == nil {
		t.Error("rm of a container elsewhere left it")
	}
}

// A client that asks for no upgrade gets its stream too.
func TestOldHijackElsewhere(t *testing.T) {
	f := newFleet(t, 2)
	f.nodes[1].ran(t, "echo", "cat")
	conn := f.nodes[0].dial(t)
	fmt.Fprint(conn, "POST /v1.24/containers/echo/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\nold")
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 OK\r\n")) || !bytes.HasSuffix(got, []byte("\x00\x00\x00\x03old")) && !bytes.Contains(got, []byte("old")) {
		t.Errorf("%v %q", err, got)
	}
}

// A client that goes takes its exec's input with it, over two nodes.
func TestLeavingElsewhere(t *testing.T) {
	f := newFleet(t, 2)
	f.nodes[1].ran(t, "echo", "cat")
	conn := f.nodes[0].dial(t)
	fmt.Fprint(conn, "POST /containers/echo/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	buf := make([]byte, 12)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "HTTP/1.1 101" {
		t.Fatalf("%v %q", err, buf)
	}
	_ = conn.Close()
	c, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		got, err := f.nodes[1].engine.Inspect(c, "echo")
		if err != nil {
			t.Fatal(err)
		}
		if got.State.Status == "exited" {
			return
		}
		if !wait(c, nil) {
			t.Fatal("the end of the client's input did not reach the container")
		}
	}
}

// A dead node neither fails nor holds up what concerns others, and is named.
func TestDeadNodes(t *testing.T) {
	f := newFleet(t, 4)
	for i, m := range f.nodes {
		m.ran(t, fmt.Sprintf("app%d", i+1), "sleep", "1000")
	}
	f.place("app2", cluster.Location{Node: "node2", Container: "app2"})
	f.place("app3", cluster.Location{Node: "node3", Container: "app3"})
	f.mark(f.down, "node2")
	f.mark(f.cut, "node2")
	f.mark(f.silent, "node3") // paused: nobody has noticed yet
	quick := func(what string, max time.Duration, fn func()) {
		t.Helper()
		start := time.Now()
		if fn(); time.Since(start) > max {
			t.Errorf("%s took %s", what, time.Since(start))
		}
	}
	quick("ps", 2500*time.Millisecond, func() {
		resp, body := f.nodes[0].ask(t, "GET", "/v1.51/containers/json?nodes=all", "")
		var list []api.Container
		var missing []api.Missing
		if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 2 || list[0].Node == nil || list[0].Node.Hostname == "" {
			t.Errorf("%v %s", err, body)
		}
		if err := json.Unmarshal([]byte(resp.Header.Get(api.MissingHeader)), &missing); err != nil || len(missing) != 2 ||
			missing[0].Reason != "down" || missing[1].Reason != "does not answer" || missing[1].Hostname != "host3" {
			t.Errorf("missing: %v %+v", err, missing)
		}
	})
	if _, body := f.nodes[0].ask(t, "GET", "/containers/json", ""); strings.Count(body, `"Id"`) != 1 {
		t.Errorf("docker ps is of its node: %s", body)
	}
	quick("a container on a dead node", time.Second, func() {
		resp, body := f.nodes[0].ask(t, "GET", "/containers/app2/json", "")
		if resp.StatusCode != 503 || !strings.Contains(body, "node host2") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	quick("a container that nobody has", 2500*time.Millisecond, func() {
		resp, body := f.nodes[0].ask(t, "GET", "/containers/gone/json", "")
		if resp.StatusCode != 404 || !strings.Contains(body, "No such container: gone") || !strings.Contains(body, "host2") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	time.AfterFunc(500*time.Millisecond, func() { f.mark(f.down, "node3") })
	quick("a stop on a node that is found to be dead", 4*time.Second, func() {
		resp, body := f.nodes[0].ask(t, "POST", "/containers/app3/stop", "")
		if resp.StatusCode != 503 || !strings.Contains(body, "node host3") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
}

// A followed log ends with an error when its node goes, and does not hang.
func TestStreamOfANodeThatGoes(t *testing.T) {
	f := newFleet(t, 2)
	f.nodes[1].ran(t, "app", "sleep", "1000")
	_ = f.nodes[1].engine.Print("app", "stdout", "first")
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://d/containers/app/logs?follow=1&stdout=1", nil)
	resp, err := f.nodes[0].client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 8+len("first\n"))); err != nil {
		t.Fatal(err)
	}
	f.mark(f.down, "node2")
	if rest, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a stream that was cut ends as if it were complete: %q", rest)
	}
}

// A network made through any node can be used there at once; one in use elsewhere stays.
func TestNetworksOfAllNodes(t *testing.T) {
	f := newFleet(t, 3)
	c := newCLI(t, f.nodes[2].socket)
	c.run(words("network create front"))
	c.run(words("run -d --name app --network front busybox sleep 1000"))
	c.run(words("network ls"), "front")
	other := newCLI(t, f.nodes[1].socket)
	other.run(words("network create side"))
	other.run(words("network connect side app"))
	c.run(words("rm -f app"))
	other.run(words("network rm front"))
	c.fails(words("network inspect front"), "front")
}

// A request can name the node that is to answer.
func TestRequestToANode(t *testing.T) {
	f := newFleet(t, 3)
	for ref, want := range map[string]string{"host2": `"Name":"host2"`, "node3": `"Name":"host3"`, "self": `"Name":"host1"`, "host1": `"Name":"host1"`} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://d/v1.51/info", nil)
		req.Header.Set(api.NodeHeader, ref)
		resp, err := f.nodes[0].client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("%s: %s", ref, body)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://d/info", nil)
	req.Header.Set(api.NodeHeader, "nobody")
	if resp, err := f.nodes[0].client().Do(req); err != nil || resp.StatusCode != 404 {
		t.Error(resp, err)
	}
}
