package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// ask reads a JSON answer of a host's own daemon.
func ask(h *netlab.Host, path string, out any) error {
	_, err := askAt(h, path, out)
	return err
}

// askAt also says which state the answer is of.
func askAt(h *netlab.Host, path string, out any) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.RunDir, "dhow.sock"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://dhow"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		return 0, fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	index, _ = strconv.ParseUint(resp.Header.Get(api.IndexHeader), 10, 64) // 0: it is no answer of the state
	return index, json.NewDecoder(resp.Body).Decode(out)
}

// Status is a stack as a host knows it, without asking the leader when stale.
func (c *C) Status(h *netlab.Host, stackName string, stale bool) (st api.StackStatus, err error) {
	path := "/dhow/v1/stacks/" + stackName
	if stale {
		path += "?consistency=stale"
	}
	return st, ask(h, path, &st)
}

// Service is one service of a stack.
func (c *C) Service(h *netlab.Host, stackName, name string) (api.ServiceStatus, error) {
	st, err := c.Status(h, stackName, false)
	if err != nil {
		return api.ServiceStatus{}, err
	}
	for _, s := range st.Services {
		if s.Name == name {
			return s, nil
		}
	}
	return api.ServiceStatus{}, fmt.Errorf("there is no service %s", name)
}

// Balancer sends requests to the healthy tasks of a service, as a load balancer
// does that follows the stack's state: a task that drains gets none.
type Balancer struct {
	c              *C
	stack, service string

	mu     sync.Mutex
	tasks  []backend       // guarded by mu
	hosts  []*netlab.Host  // guarded by mu: that are asked
	least  int             // guarded by mu: fewest tasks that could be asked
	index  uint64          // guarded by mu: of the state that tasks are of
	sent   int             // guarded by mu
	lost   []string        // guarded by mu
	seen   map[string]bool // guarded by mu: hosts that answered requests
	cancel context.CancelFunc
	group  sync.WaitGroup
}

type backend struct {
	host *netlab.Host
	addr string
	task string
}

// Balance begins to send requests from several clients at once.
func (c *C) Balance(stackName, service string) *Balancer {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &Balancer{c: c, stack: stackName, service: service, hosts: c.Hosts, least: 1 << 30, seen: map[string]bool{}, cancel: cancel}
	netlab.Eventually(c, 10*time.Second, "there are healthy tasks", b.look)
	b.group.Go(func() {
		for ctx.Err() == nil {
			if err := b.look(); err != nil { // the last answer counts
				continue
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for range 3 {
		b.group.Go(func() {
			for ctx.Err() == nil {
				b.request(ctx)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return b
}

// look finds the tasks to use: from the managers which they are, from their
// nodes at which address.
func (b *Balancer) look() error {
	b.mu.Lock()
	known, newest := map[string]backend{}, b.index
	for _, t := range b.tasks {
		known[t.task] = t
	}
	b.mu.Unlock()
	err := errors.New("no host")
	for _, h := range b.c.Hosts[:b.c.Managers] {
		var st api.StackStatus
		index, asked := askAt(h, "/dhow/v1/stacks/"+b.stack+"?consistency=stale", &st)
		if asked == nil && index < newest { // it has just been started, and is behind
			asked = fmt.Errorf("%s is at %d, known is %d", h.Name, index, newest)
		}
		if err = asked; err != nil {
			continue
		}
		var found []backend
		for _, t := range st.Tasks {
			if t.Service != b.service || t.Status.State != stack.TaskRunning || t.Status.Health != "healthy" ||
				t.Desired != stack.DesiredRun || t.Draining != 0 || st.Nodes[t.Node].Down {
				continue
			}
			use, ok := known[t.ID]
			if !ok {
				if use, err = b.find(t, st.Nodes[t.Node].Hostname); err != nil {
					return err
				}
			}
			found = append(found, use)
		}
		b.mu.Lock()
		b.tasks, b.least, b.index = found, min(b.least, len(found)), index
		b.mu.Unlock()
		return nil
	}
	return err
}

func (b *Balancer) find(t stack.Task, host string) (backend, error) {
	h := b.c.Host(host)
	var ct struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := ask(h, "/containers/"+t.Status.ContainerID+"/json", &ct); err != nil {
		return backend{}, err
	}
	for _, n := range ct.NetworkSettings.Networks {
		return backend{h, "http://" + n.IPAddress + "/", t.ID}, nil
	}
	return backend{}, errors.New("container without a network")
}

func (b *Balancer) request(ctx context.Context) {
	b.mu.Lock()
	if len(b.tasks) == 0 {
		b.lost = append(b.lost, "nobody to ask")
		b.mu.Unlock()
		return
	}
	to := b.tasks[rand.IntN(len(b.tasks))]
	b.mu.Unlock()
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := get(rctx, to)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent++
	if err != nil {
		b.lost = append(b.lost, fmt.Sprintf("%s at %s on %s: %v", time.Now().Format("05.000"), to.task, to.host.Name, err))
		return
	}
	b.seen[to.host.Name] = true
}

func get(ctx context.Context, to backend) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.addr, nil)
	if err != nil {
		return err
	}
	resp, err := to.host.Client().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

// Stop stops the requests and tells how many there were and what was lost.
func (b *Balancer) Stop() (sent int, lost []string) {
	b.cancel()
	b.group.Wait()
	return b.sent, b.lost
}

// End stops the requests and fails the test when one was lost, or when there
// were fewer healthy tasks at a time than least.
func (b *Balancer) End(least int) {
	b.c.Helper()
	b.Stop()
	b.c.Logf("  %d requests, %d lost; never fewer than %d tasks to ask", b.sent, len(b.lost), b.least)
	if len(b.lost) > 0 {
		b.c.Errorf("%d of %d requests were lost:\n%s", len(b.lost), b.sent, strings.Join(b.lost[:min(len(b.lost), 10)], "\n"))
	}
	if b.least < least || b.sent == 0 {
		b.c.Errorf("%d healthy tasks at a time, want %d; %d requests", b.least, least, b.sent)
	}
}

var errNotYet = errors.New("not yet")
