package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// eventsOfAll calls each with the events of all nodes: those of the past in the
// order of their times, then what comes as it comes. A node that goes is left
// out, and asked again for what was missed.
func (a *app) eventsOfAll(ctx context.Context, c *client.Client, since, until time.Time, f client.Filters, each func(api.EventMessage) error) error {
	peers, err := c.Peers(ctx)
	if err != nil || len(peers) < 2 { // a daemon without a part in clusters
		return c.Events(ctx, since, until, f, each)
	}
	now := time.Now()
	if !since.IsZero() && since.Before(now) {
		end := now
		if !until.IsZero() && until.Before(now) {
			end = until
		}
		if err := a.pastEvents(ctx, c, peers, since, end, f, each); err != nil || end.Equal(until) {
			return err
		}
	}
	if since.Before(now) {
		since = now.Add(time.Nanosecond)
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range peers {
		g.Go(func() error {
			return a.eventsOf(gctx, c, p, since, until, f, func(e api.EventMessage) error {
				mu.Lock()
				defer mu.Unlock()
				return each(e)
			})
		})
	}
	err = g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// pastEvents gathers what has happened and sorts it.
func (a *app) pastEvents(ctx context.Context, c *client.Client, peers []api.Peer, since, until time.Time, f client.Filters, each func(api.EventMessage) error) error {
	var mu sync.Mutex
	var all []api.EventMessage
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range peers {
		g.Go(func() error {
			nctx, cancel := context.WithTimeout(gctx, answerTime)
			defer cancel()
			err := eventsFrom(nctx, c, p, since, until, f, func(e api.EventMessage) error {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, named(e, p))
				return nil
			})
			if gctx.Err() == nil && gone(err, p) {
				a.leaveOut(p.Hostname, whyGone(p.Hostname, err))
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortStableFunc(all, func(x, y api.EventMessage) int { return int(min(max(x.TimeNano-y.TimeNano, -1), 1)) })
	for _, e := range all {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// eventsOf follows one node, through times in which it cannot be reached.
func (a *app) eventsOf(ctx context.Context, c *client.Client, p api.Peer, since, until time.Time, f client.Filters, each func(api.EventMessage) error) error {
	for {
		err := eventsFrom(ctx, c, p, since, until, f, func(e api.EventMessage) error {
			since = time.Unix(0, e.TimeNano+1)
			a.back(p.Hostname)
			return each(named(e, p))
		})
		if ctx.Err() != nil || !gone(err, p) {
			return err
		}
		a.leaveOut(p.Hostname, whyGone(p.Hostname, err))
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func eventsFrom(ctx context.Context, c *client.Client, p api.Peer, since, until time.Time, f client.Filters, each func(api.EventMessage) error) error {
	if p.Self {
		return c.Events(ctx, since, until, f, each)
	}
	return c.EventsOf(ctx, p.ID, since, until, f, each)
}

// answerTime is how long a node may take for what it need not wait for.
const answerTime = 3 * time.Second

// gone says whether err is that another node went: the end of one's own daemon is an error.
func gone(err error, p api.Peer) bool {
	var cut *client.Cut
	return !p.Self && (client.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &cut))
}

// named adds the node that an event is of.
func named(e api.EventMessage, p api.Peer) api.EventMessage {
	if e.Actor.Attributes == nil {
		e.Actor.Attributes = map[string]string{}
	}
	e.Actor.Attributes["node"] = p.Hostname
	return e
}
