package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds of a search for the leader.
const (
	nextTry  = 250 * time.Millisecond // after which another manager is called as well
	callTime = 2 * time.Second        // that making a connection may take
)

// tried is how a call to one manager ended.
type tried struct {
	node   string
	remote *remote
	leader string // who leads instead
	err    error
}

// find calls managers until one says that it leads: the first ones one after
// the other, without waiting long for each. One that does not lead says who
// does, and waits for an election's end to say so. The leader that was lost is
// named to the others, who may not know yet that it is dead.
func (c *Client) find(ctx context.Context, nodes []string, lost string) (*remote, error) {
	if len(nodes) == 0 {
		return nil, errors.New("no manager is known")
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &search{client: c, lost: lost, results: make(chan tried), stops: map[string]context.CancelFunc{}}
	var winner *remote
	defer func() { s.end(winner, cancel) }()
	var problems []error
	for {
		if len(nodes) > 0 && s.open == 0 {
			s.try(ctx, nodes[0])
			nodes = nodes[1:]
			continue
		}
		if s.open == 0 {
			return nil, errors.Join(problems...)
		}
		var next <-chan time.Time
		if len(nodes) > 0 {
			next = time.After(nextTry)
		}
		wake := c.wake()
		if c.local() != nil {
			return nil, errors.New("this node leads itself")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wake:
		case <-next:
			s.try(ctx, nodes[0])
			nodes = nodes[1:]
		case t := <-s.results:
			s.open--
			if t.remote != nil {
				winner = t.remote
				return winner, nil
			}
			problems = append(problems, t.err)
			if t.leader != "" && t.leader != c.cfg.Node {
				s.try(ctx, t.leader)
			}
		}
	}
}

// search is the calls of one find; only find's goroutine uses it.
type search struct {
	client  *Client
	lost    string
	results chan tried
	open    int                           // calls whose results are to come
	stops   map[string]context.CancelFunc // by node: those that were called
}

// try calls a manager that has not been called yet.
func (s *search) try(ctx context.Context, node string) {
	if s.stops[node] != nil {
		return
	}
	tctx, stop := context.WithCancel(ctx)
	s.open, s.stops[node] = s.open+1, stop
	go func() { s.results <- s.client.try(tctx, stop, node, s.lost) }()
}

// end stops all calls but the winner's, which cancel is for from now on; without
// one it stops all. What still answers is closed.
func (s *search) end(winner *remote, cancel context.CancelFunc) {
	for node, stop := range s.stops {
		if winner == nil || node != winner.leader {
			stop()
		}
	}
	if winner == nil {
		cancel()
	} else {
		winner.cancel = cancel
	}
	go func(n int) {
		for range n {
			if t := <-s.results; t.remote != nil {
				t.remote.wire.close()
			}
		}
	}(s.open)
}

// try calls one manager.
func (c *Client) try(ctx context.Context, stop context.CancelFunc, node, lost string) tried {
	late := time.AfterFunc(callTime, stop)
	w, err := open(ctx, node, c.cfg.Dial)
	late.Stop()
	if err != nil {
		return tried{node: node, err: err}
	}
	m, err := c.greet(w, lost)
	switch {
	case err != nil:
		w.close()
		return tried{node: node, err: fmt.Errorf("call manager %s: %w", node, err)}
	case m.Bye != nil:
		w.close()
		return tried{node: node, leader: m.Bye.Leader, err: fmt.Errorf("manager %s: %s", node, m.Bye.Reason)}
	}
	return tried{node: node, remote: &remote{
		client: c, wire: w, leader: node, terms: m.Welcome.Terms,
		out: make(chan *fromClient, 8), asked: map[uint64]chan<- string{},
		one: make(chan struct{}, 1), closed: make(chan struct{}),
	}}
}

// greet sends the greeting and receives the answer.
func (c *Client) greet(w *wire, lost string) (*fromServer, error) {
	h := &hello{Protocol: protocol, Description: c.describe(), Lost: lost}
	c.mirror.greet(h)
	if err := w.send(&fromClient{Hello: h}); err != nil {
		return nil, err
	}
	m, err := w.receive()
	if err != nil {
		return nil, err
	}
	return m, m.check(true)
}
