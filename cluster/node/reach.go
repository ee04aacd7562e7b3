package node

import (
	"context"
	"fmt"
	"time"

	"github.com/dhow-project/dhow/cluster/port"
)

// This file keeps this machine reachable: a daemon whose address has gone, as
// when a network comes up late, runs on and listens when it is there.

// listen opens this machine to the others, at the address that its listen
// address is now.
func (e *epoch) listen() error {
	m := e.memberNow()
	at, err := resolve(m.Listen)
	if err == nil {
		err = e.port.Listen(at)
	}
	if err != nil {
		err = fmt.Errorf("listen for other nodes on %s: %w", m.Listen, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trouble = ""
	if err != nil {
		e.trouble = err.Error()
	}
	return err
}

// keepListening listens as soon as that is possible, and anew where the
// interface that was named has another address.
func (e *epoch) keepListening(ctx context.Context) error {
	last := ""
	for {
		at := e.port.Addr()
		if want, err := resolve(e.memberNow().Listen); at != nil && err == nil && !anywhere(want) && want != at.String() {
			if err := e.port.CloseListener(); err != nil {
				return err
			}
			at = nil
		}
		if at == nil {
			err := e.listen()
			switch {
			case err == nil:
				e.log.Info("listening for other nodes", "addr", e.port.Addr())
				e.client.Refresh()
				e.n.notify()
			case err.Error() != last && ctx.Err() == nil:
				last = err.Error()
				e.log.Error("not reachable for other nodes", "error", err)
			}
		}
		wait := movePause
		if e.port.Addr() == nil {
			wait = bindPause
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// standing is what the manager that leads says of the node that asks.
type standing struct {
	Member bool `json:"member"`
}

// keepStanding finds out why no manager wants to talk to this node: a node that
// was removed while it was away is told so by nobody else.
func (e *epoch) keepStanding(ctx context.Context) error {
	wait := bindPause / 2
	for {
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		wait = bindPause
		if e.client.Leader() != "" || e.local() != nil {
			e.removed(false)
			continue
		}
		limited, cancel := context.WithTimeout(ctx, askTimeout)
		var st standing
		err := e.askOnce(limited, port.StandingPath, struct{}{}, &st)
		cancel()
		if err != nil {
			continue // nobody knows
		}
		if st.Member {
			wait = askTimeout
		}
		e.removed(!st.Member)
	}
}

// removed keeps what the cluster says of this node, and lets the agent know.
func (e *epoch) removed(yes bool) {
	if e.memberNow().Removed == yes {
		return
	}
	if err := e.changeMember(func(m *member) { m.Removed = yes }); err != nil {
		e.log.Error("remember whether this node was removed", "error", err)
		return
	}
	e.log.Warn("standing in the cluster", "removed", yes)
	e.turned()
	e.n.notify()
}

// problem is why this node is of no use to its cluster; "": it is.
func (e *epoch) problem() string {
	m := e.memberNow()
	if m == nil {
		return ""
	}
	if m.Removed {
		return "this node was removed from its cluster and runs nothing of it any more; `dhow swarm leave --force` makes it a machine of its own, which can join again"
	}
	if end := e.n.id.Expiry(); !end.IsZero() && time.Now().After(end) {
		return fmt.Sprintf("the certificate of this node expired at %s, or the clock of this machine is wrong; set the clock, or `dhow swarm leave --force` and join again", end.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble
}
