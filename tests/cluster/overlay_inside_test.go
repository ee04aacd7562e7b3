package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// inside is a stack with a network that takes plain containers and one that does not.
const inside = `
name: inside
services:
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    ports: ["8085:80", "81", {target: 82, published: 8086, mode: host}]
    deploy: {mode: global}
    networks: [open, closed]
networks:
  open: {driver: overlay, attachable: true}
  closed: {driver: overlay}
`

func TestNetworksAreLookedInto(t *testing.T) {
	netlab.NeedsDocker(t)
	c := New(t, "every node shows who is in a network, where its ports are, and what is missing", 3, 0, "busybox:latest")
	c.Compose(inside)
	c.Step("the stack comes up", func() { c.Run(c.Hosts[0], "up", "-d", "--wait") })
	c.Step("all nodes show the same to docker's client", func() {
		for _, h := range c.Hosts {
			docker(t, h, "swarm", "network", "inspect", "--format", "{{.Scope}}", "inside_closed")
			docker(t, h, "true", "network", "inspect", "--format", "{{.Ingress}}", "ingress")
			docker(t, h, "3", "network", "inspect", "--format", "{{len .Peers}}", "inside_open")
			docker(t, h, "3", "network", "inspect", "--verbose", "--format", "{{len (index .Services \"inside_web\").Tasks}}", "inside_open")
			docker(t, h, "2", "service", "inspect", "--format", "{{len .Endpoint.VirtualIPs}}", "inside_web")
			docker(t, h, "*:8085->80/tcp, *:30000->81/tcp", "service", "ls", "--format", "{{.Ports}}")
		}
	})
	c.Step("ports are where it is said", func() {
		for i, h := range c.Hosts {
			other := c.Hosts[(i+1)%len(c.Hosts)]
			for port, want := range map[string]string{"80": "0.0.0.0:8085", "81": "0.0.0.0:30000", "82": other.Addr + ":8086"} {
				if got := strings.TrimSpace(c.Run(h, "port", "--node", other.Name, "web", port)); got != want {
					t.Errorf("%s: port %s of %s is at %s, want %s", h.Name, port, other.Name, got, want)
				}
			}
		}
	})
	c.Step("plain containers enter what is attachable, and nothing else", func() {
		docker(t, c.Hosts[2], "", "run", "-d", "--name", "guest", "--network", "inside_open", "busybox", "sleep", "1000")
		if r := c.Hosts[0].Docker("run", "--rm", "--network", "inside_closed", "busybox", "true"); r.Code == 0 || !strings.Contains(r.Stderr, "network inside_closed not manually attachable") {
			t.Errorf("inside_closed: %v", r.Err())
		}
		if got := c.Hosts[1].Dhow("network", "inspect", "--pretty", "inside_open"); !strings.Contains(got, "guest") || strings.Contains(got, "NOT AS IT SHOULD BE") {
			t.Error(got)
		}
		docker(t, c.Hosts[2], "guest", "rm", "-f", "guest")
	})
	c.Step("a node that is lost is named, and what it has", func() {
		lost := c.Hosts[2]
		lost.Kill()
		netlab.Eventually(t, 20*time.Second, "the network says so", func() error {
			got := c.Hosts[0].Dhow("network", "inspect", "--pretty", "inside_closed")
			if want := fmt.Sprintf("- node %s does not answer: its container is left out", lost.Name); !strings.Contains(got, want) {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
		lost.Start()
		netlab.Eventually(t, 20*time.Second, "nothing is missing again", func() error {
			if got := c.Hosts[0].Dhow("network", "inspect", "--pretty", "inside_closed"); strings.Contains(got, "NOT AS IT SHOULD BE") {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
		if got := c.Hosts[0].Dhow("node", "inspect", "--pretty", lost.Name); !strings.Contains(got, "data address  "+lost.Addr+" (MTU 1500)") {
			t.Error(got)
		}
	})
	c.Step("down", func() { c.Run(c.Hosts[0], "down") })
}

// docker runs docker's client on a host; it prints what is wanted, if anything is.
func docker(t *testing.T, h *netlab.Host, want string, args ...string) {
	t.Helper()
	r := h.Docker(args...)
	if got := strings.TrimSpace(r.Stdout); r.Code != 0 || want != "" && got != want {
		t.Errorf("%s: docker %s: %q, want %q: %v", h.Name, strings.Join(args, " "), got, want, r.Err())
	}
}
