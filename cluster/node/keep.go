package node

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// keeper sees to it that the managers know of the same containers without a task
// in networks as this machine. It tells the leader of each session which there
// are: those that it knows of besides have gone while it was not reached. And it
// lets those enter again that have vanished from a directory, as when an older
// state was restored: their addresses would be given to others.
type keeper struct {
	e     *epoch
	told  uint64        // the last session whose leader knows them
	since time.Time     // some have been missed since; zero: none are
	rest  time.Duration // between two tries to let them in
}

const (
	missedRest = time.Second // longer than a directory is behind
	missedMost = time.Minute // that rest grows to
	missedLook = time.Minute // between two looks when nothing changes: what comes and goes at once changes nothing
)

// keepPlain is the keeper's loop.
func (e *epoch) keepPlain(ctx context.Context) error {
	if e.n.cfg.Plain == nil {
		return nil
	}
	k := &keeper{e: e, rest: missedRest}
	for {
		seen := e.client.Changed()
		timer := time.NewTimer(k.look(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-seen:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look does what there is to do, and returns when to look again at the latest.
func (k *keeper) look(ctx context.Context) time.Duration {
	session := k.e.client.Sessions()
	if session != k.told {
		if k.e.client.Leader() == "" {
			return missedLook
		}
		if err := k.e.tellPlain(ctx); err != nil {
			if ctx.Err() == nil {
				k.e.log.Warn("tell which containers are still in networks", "error", err)
			}
			return bindPause
		}
		k.told = session
	}
	missed := k.e.missed()
	if len(missed) == 0 {
		k.since, k.rest = time.Time{}, missedRest
		return missedLook
	}
	if k.since.IsZero() {
		k.since = time.Now()
	}
	if left := k.rest - time.Since(k.since); left > 0 {
		return left
	}
	k.e.readmit(ctx, missed)
	k.since, k.rest = time.Now(), min(2*k.rest, missedMost)
	return k.rest
}

// startTelling lets nobody enter until the function returned is called.
func (e *epoch) startTelling() (done func()) {
	told := make(chan struct{})
	e.mu.Lock()
	e.telling = told
	e.mu.Unlock()
	return func() {
		e.mu.Lock()
		e.telling = nil
		e.mu.Unlock()
		close(told)
	}
}

// tellPlain tells the leader of all containers without a task.
func (e *epoch) tellPlain(ctx context.Context) error {
	defer e.startTelling()()
	ids := map[string]bool{}
	var left []place
	e.mu.Lock() // before the list is asked for: what left one of them is on its way into the other
	for at := range e.entered {
		ids[at.ID] = true
	}
	for at := range e.leaving {
		left = append(left, at)
	}
	e.mu.Unlock()
	for _, id := range e.n.cfg.Plain() {
		ids[id] = true
	}
	for _, at := range left {
		if err := e.leaveNetwork(ctx, at.ID, at.Network); err != nil {
			return err
		}
	}
	return e.keepEndpoints(ctx, slices.Sorted(maps.Keys(ids)))
}

// missed are the containers that have entered networks whose directories do not
// have them.
func (e *epoch) missed() (out []place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for at, ep := range e.entered {
		if ep == nil { // it is on its way
			continue
		}
		d := e.client.Directory(ep.Network)
		if d == nil || !slices.ContainsFunc(d.Endpoints, func(o stack.Endpoint) bool { return o.ID == ep.ID && o.Node == e.node }) {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, func(a, b place) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Network, b.Network))
	})
	return out
}

// readmitLimit bounds how long others wait to enter while some do so again.
const readmitLimit = 10 * time.Second

// readmit lets containers enter again, with the addresses that they have.
func (e *epoch) readmit(ctx context.Context, list []place) {
	defer e.startTelling()()
	ctx, cancel := context.WithTimeout(ctx, readmitLimit)
	defer cancel()
	for _, at := range list {
		e.mu.Lock()
		ep := e.entered[at]
		e.mu.Unlock()
		if ep == nil {
			continue // it has left, or it is on its way
		}
		_, err := e.tellEntered(ctx, *ep)
		e.mu.Lock()
		_, still := e.entered[at]
		e.mu.Unlock()
		if !still { // the word that it leaves may have come first
			err = errors.Join(err, e.leaveNetwork(ctx, at.ID, at.Network))
		}
		log := e.log.With("container", ep.ID, "network", ep.Network, "ipv4", ep.IPv4, "ipv6", ep.IPv6)
		if err != nil {
			log.Warn("the managers do not know of a container in a network", "error", err)
		} else {
			log.Info("the managers did not know of a container in a network")
		}
	}
}
