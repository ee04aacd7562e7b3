package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// What nodes ask of the manager that leads for their containers without a task.
const (
	enterPath = "/cluster/v1/networks/enter"
	leavePath = "/cluster/v1/networks/leave"
	keepPath  = "/cluster/v1/networks/keep"
)

// place is a container's in a network.
type place struct {
	ID      string `json:"id"`
	Network string `json:"network"`
}

// kept are all containers without a task that a node has in networks.
type kept struct {
	IDs []string `json:"ids"`
}

// plainPatience bounds how long a command on a container waits for somebody to
// lead; an election is over long before.
const plainPatience = 30 * time.Second

func (e *epoch) enterNetwork(ctx context.Context, ep stack.Endpoint) (stack.Endpoint, error) {
	ep.Node = e.node
	if err := checkEndpoint(ep); err != nil {
		return ep, err
	}
	at := place{ep.ID, ep.Network}
	before, err := e.claim(ctx, at)
	if err != nil {
		return ep, err
	}
	out, err := e.tellEntered(ctx, ep)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch _, here := e.entered[at]; {
	case !here: // it has left meanwhile
	case err == nil:
		e.entered[at] = &out
	case before != nil:
		e.entered[at] = before
	default:
		delete(e.entered, at)
	}
	return out, err
}

// claim notes that a container is about to enter a network, and returns what it
// has there already. While the managers are told of all containers it waits: the
// word that has not got it must not come after the one that it enters, or it
// would be taken out again and its address given to another.
func (e *epoch) claim(ctx context.Context, at place) (before *stack.Endpoint, err error) {
	for {
		e.mu.Lock()
		telling := e.telling
		if telling == nil {
			before, e.entered[at] = e.entered[at], nil
			delete(e.leaving, at)
		}
		e.mu.Unlock()
		if telling == nil {
			return before, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("network %s: the managers have not answered yet which containers this machine has: %w", at.Network, ctx.Err())
		case <-telling:
		}
	}
}

func (e *epoch) tellEntered(ctx context.Context, ep stack.Endpoint) (out stack.Endpoint, err error) {
	err = e.onLeader(ctx, enterPath, ep, &out, func(ctx context.Context, m *cluster.Manager) (err error) {
		out, err = m.EnterNetwork(ctx, ep)
		return err
	})
	return out, err
}

// leaveNetwork is remembered when nobody could be told.
func (e *epoch) leaveNetwork(ctx context.Context, id, network string) error {
	at := place{id, network}
	e.mu.Lock()
	delete(e.entered, at)
	e.leaving[at] = true
	e.mu.Unlock()
	if err := e.tellLeft(ctx, id, network); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.leaving, at)
	e.mu.Unlock()
	return nil
}

func (e *epoch) tellLeft(ctx context.Context, id, network string) error {
	return e.onLeader(ctx, leavePath, place{id, network}, &struct{}{}, func(ctx context.Context, m *cluster.Manager) error {
		return m.LeaveNetwork(ctx, e.node, id, network)
	})
}

func (e *epoch) keepEndpoints(ctx context.Context, ids []string) error {
	return e.onLeader(ctx, keepPath, kept{ids}, &struct{}{}, func(ctx context.Context, m *cluster.Manager) error {
		return m.KeepEndpoints(ctx, e.node, ids)
	})
}

// onLeader has the manager that leads do something: this process's own, or
// another node's. It is asked again when the leader changes, until ctx ends:
// what is done may be done twice.
func (e *epoch) onLeader(ctx context.Context, path string, q, a any, here func(context.Context, *cluster.Manager) error) error {
	ctx, cancel := context.WithTimeout(ctx, plainPatience)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var err error
		if m := e.managing(); m != nil && m.Leading() {
			err = here(ctx, m)
			if !errors.Is(err, cluster.ErrNotLeader) && !errors.Is(err, cluster.ErrLeaderLost) {
				return err
			}
		} else if err = e.askOnce(ctx, path, q, a); err == nil || answered(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no manager that leads answered: %w: %w", err, ctx.Err())
		case <-e.wake():
		case <-time.After(wait):
		}
	}
}

// answered reports whether an error is what the leader said, and would say again.
func answered(err error) bool {
	var d *denied
	return errors.As(err, &d) && d.code != http.StatusServiceUnavailable
}

// plainHandlers answer what other nodes ask for their containers. Each node
// speaks for its own only.
func (e *epoch) plainHandlers(mux *http.ServeMux) {
	mux.HandleFunc("POST "+enterPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, ep stack.Endpoint) (stack.Endpoint, error) {
			p, _ := port.PeerOf(r)
			ep.Node = p.Node
			if err := checkEndpoint(ep); err != nil {
				return ep, err
			}
			return m.EnterNetwork(ctx, ep)
		})
	})
	mux.HandleFunc("POST "+leavePath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, q place) (struct{}, error) {
			p, _ := port.PeerOf(r)
			if !short(q.ID) || !short(q.Network) {
				return struct{}{}, fmt.Errorf("a container or network of %d and %d bytes: %w", len(q.ID), len(q.Network), runtime.ErrInvalid)
			}
			return struct{}{}, m.LeaveNetwork(ctx, p.Node, q.ID, q.Network)
		})
	})
	mux.HandleFunc("POST "+keepPath, func(w http.ResponseWriter, r *http.Request) {
		answer(e, w, r, func(ctx context.Context, m *cluster.Manager, q kept) (struct{}, error) {
			p, _ := port.PeerOf(r)
			if len(q.IDs) > maxKept || slices.ContainsFunc(q.IDs, func(id string) bool { return !short(id) }) {
				return struct{}{}, fmt.Errorf("%d containers: too many, or an ID that is none: %w", len(q.IDs), runtime.ErrInvalid)
			}
			return struct{}{}, m.KeepEndpoints(ctx, p.Node, q.IDs)
		})
	})
}

// Bounds of what a node may say of a container: all nodes of the network keep it.
const (
	maxPlainName  = 255 // bytes, as of any name in DNS
	maxPlainNames = 64
	maxKept       = 10_000
)

func short(s string) bool { return s != "" && len(s) <= maxPlainName }

// checkEndpoint refuses what no node would say of a container.
func checkEndpoint(e stack.Endpoint) error {
	bad := func(what string) error {
		return fmt.Errorf("container %.64q in network %.64q: %s: %w", e.ID, e.Network, what, runtime.ErrInvalid)
	}
	switch {
	case !short(e.ID) || !short(e.Network) || !short(e.Node):
		return bad("an ID is missing or too long")
	case len(e.Name) > maxPlainName || len(e.Service) > 2*maxPlainName+1 || len(e.Container) > maxPlainName:
		return bad("a name is too long")
	case len(e.Names) > maxPlainNames || len(e.Aliases) > maxPlainNames:
		return bad(fmt.Sprintf("it has more than %d names", maxPlainNames))
	case slices.ContainsFunc(slices.Concat(e.Names, e.Aliases), func(s string) bool { return !short(s) }):
		return bad("a name is empty or too long")
	case !addressOf(e.IPv4, netip.Addr.Is4):
		return bad("its IPv4 address is none")
	case !addressOf(e.IPv6, netip.Addr.Is6):
		return bad("its IPv6 address is none")
	case len(e.MAC) > 32:
		return bad("its hardware address is none")
	}
	return nil
}

// addressOf reports whether s is an address of a family, or nothing.
func addressOf(s string, family func(netip.Addr) bool) bool {
	if s == "" {
		return true
	}
	a, err := netip.ParseAddr(s)
	return err == nil && family(a) && a.Zone() == ""
}
