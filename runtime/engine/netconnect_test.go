package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// networksOf are the networks that a container is in, in order.
func (n *node) networksOf(ref string) string {
	n.Helper()
	var out []string
	for _, e := range n.inspect(ref).Endpoints {
		out = append(out, e.Network)
	}
	return strings.Join(out, " ")
}

func TestNetworksOfARunningContainerChange(t *testing.T) {
	n := newNode(t)
	id := n.start("app", stack.ContainerSpec{Hostname: "box", Command: []string{"sleep", "1000"}})
	ctx := n.ctx()
	events := n.bus.Subscribe(ctx, time.Time{}, time.Time{})
	n.exec(id, "sh", "-c", "echo 1.2.3.4 mine >> /etc/hosts")

	n.ok(n.ConnectNetwork(ctx, "app", stack.Attachment{Network: "back"}))
	e := n.until(events, func(e runtime.Event) bool { return e.Type == "network" })
	if e.Action != "connect" || e.ID != "id-back" || e.Attrs["container"] != id || e.Attrs["name"] != "back" {
		t.Errorf("event %+v", e)
	}
	if err := n.ConnectNetwork(ctx, "app", stack.Attachment{Network: "back"}); !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("connected twice: %v", err)
	}
	if hosts, _ := n.exec(id, "cat", "/etc/hosts"); !strings.Contains(hosts, "10.9.4.2\tbox\n") || !strings.Contains(hosts, "1.2.3.4 mine\n") {
		t.Errorf("hosts:\n%s", hosts)
	}
	n.ok(n.DisconnectNetwork(ctx, "app", "bridge", false))
	if hosts, _ := n.exec(id, "cat", "/etc/hosts"); strings.Contains(hosts, "10.9.6.2") || !strings.Contains(hosts, "1.2.3.4 mine\n") {
		t.Errorf("hosts:\n%s", hosts)
	}
	if conf, _ := n.exec(id, "cat", "/etc/resolv.conf"); !strings.HasPrefix(conf, "nameserver 10.9.4.1\n") {
		t.Errorf("resolv.conf:\n%s", conf)
	}
	if err := n.DisconnectNetwork(ctx, "app", "bridge", false); !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("disconnected twice: %v", err)
	}
	n.reopen() // another daemon, the same networks
	if got := n.networksOf("app"); got != "back" {
		t.Errorf("after a restart of the daemon: %q", got)
	}
	n.net.mu.Lock()
	restored := len(n.net.boxes[id].Attachments)
	n.net.mu.Unlock()
	if restored != 1 {
		t.Errorf("%d networks restored", restored)
	}
	n.ok(n.Restart(n.ctx(), "app", "KILL", nil)) // the same also after a start
	if got := n.networksOf("app"); got != "back" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestNetworksOfAStoppedContainerChange(t *testing.T) {
	n := newNode(t)
	n.create("app", stack.ContainerSpec{NetworkMode: "front", Networks: []stack.Attachment{{Network: "front"}}, Command: []string{"sleep", "1000"}})
	ctx := n.ctx()
	n.ok(n.ConnectNetwork(ctx, "app", stack.Attachment{Network: "back", Aliases: []string{"db"}}))
	n.ok(n.DisconnectNetwork(ctx, "app", "front", false))
	n.ok(n.Start(ctx, "app"))
	c := n.inspect("app")
	if got := n.networksOf("app"); got != "back" || !slices.Equal(c.Spec.Networks[0].Aliases, []string{"db"}) {
		t.Errorf("%q %+v", got, c.Spec.Networks)
	}
	n.ok(n.DisconnectNetwork(ctx, "app", "back", false))
	n.ok(n.ConnectNetwork(ctx, "app", stack.Attachment{Network: "front"}))
	n.ok(n.DisconnectNetwork(ctx, "app", "front", false))
	if got := n.networksOf("app"); got != "" {
		t.Errorf("without networks: %q", got)
	}
	n.ok(n.Restart(ctx, "app", "KILL", nil)) // as in Docker, nothing left begins anew
	if got := n.networksOf("app"); got != "front" {
		t.Errorf("after a restart: %q", got)
	}
	n.create("none", stack.ContainerSpec{NetworkMode: "none"})
	if err := n.ConnectNetwork(context.Background(), "none", stack.Attachment{Network: "back"}); !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("network mode none: %v", err)
	}
}
