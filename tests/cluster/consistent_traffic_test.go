package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// goal is a web server that answers with the name of its service.
type goal struct{ url, service string }

// goals are the web servers of a network: services by their virtual addresses,
// and all of their tasks.
func (w *world) goals(v stack.NetworkView) (out []goal) {
	up := map[string]bool{}
	for _, e := range v.Endpoints {
		if !e.Up || e.Service == "" {
			continue
		}
		up[e.Service] = true
		for _, a := range []string{e.IPv4, e.IPv6} {
			if a != "" {
				out = append(out, goal{"http://" + net.JoinHostPort(a, "80") + "/", e.Service})
			}
		}
	}
	for _, s := range v.Services {
		for _, a := range []string{s.IPv4, s.IPv6} {
			if a != "" && up[s.Service] {
				out = append(out, goal{"http://" + net.JoinHostPort(a, "80") + "/", s.Service})
			}
		}
	}
	return out
}

// serving is nil when the program in each task's container listens: one that has
// just been started does so a moment later.
func (w *world) serving() error {
	for _, v := range w.networks {
		for _, e := range v.Endpoints {
			if !e.Up || e.Service == "" {
				continue
			}
			if err := listens(w.namespace(e), "80"); err != nil {
				return fmt.Errorf("%s on %s does not listen: %w", e.Name, w.nodes[e.Node].host.Name, err)
			}
		}
	}
	return nil
}

// member tells whether a container is in a network.
func (w *world) member(v stack.NetworkView, e stack.Endpoint) bool {
	for _, x := range v.Endpoints {
		if x.Container == e.Container {
			return true
		}
	}
	return false
}

func (w *world) namespace(e stack.Endpoint) string {
	return w.nodes[e.Node].host.NamespaceOf(e.Container)
}

// reaches asks the goal from within a container.
func (w *world) reaches(e stack.Endpoint, to goal) error {
	return to.from(fmt.Sprintf("%s on %s", e.Name, w.nodes[e.Node].host.Name), w.namespace(e))
}

// reachesNot fails when a container of no common network gets through.
func (w *world) reachesNot(e stack.Endpoint, to goal) error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	a := Asker{Namespace: w.namespace(e)}
	conn, err := a.dial(ctx, "tcp", strings.TrimSuffix(strings.TrimPrefix(to.url, "http://"), "/"))
	if err != nil {
		return nil
	}
	conn.Close()
	return fmt.Errorf("%s on %s reaches %s of %s, with which it has no network", e.Name, w.nodes[e.Node].host.Name, to.url, to.service)
}

// from asks the goal from a network namespace.
func (g goal) from(who, namespace string) error {
	a := Asker{Namespace: namespace}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: a.dial}}
	resp, err := client.Get(g.url)
	if err != nil {
		return fmt.Errorf("%s asks %s: %w", who, g.service, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if got := strings.TrimSpace(string(body)); err == nil && got != g.service {
		err = fmt.Errorf("%s: %q", resp.Status, got)
	}
	if err != nil {
		return fmt.Errorf("%s asks %s at %s: %w", who, g.service, g.url, err)
	}
	return nil
}
