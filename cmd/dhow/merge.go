package main

import (
	"bytes"
	"container/heap"
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
)

// stampedLine is one line of a container's output with its time.
type stampedLine struct {
	ct   container.Summary
	at   time.Time
	text []byte // with its time in front, as the daemon sent it
	bare []byte // without
}

// pastLogs prints what containers have printed, in the order of its times: each
// one's lines are in order already.
func (a *app) pastLogs(ctx context.Context, c *client.Client, list []container.Summary, o runtime.LogOptions, stamps bool, p *prefixer) error {
	o.Follow = false
	g, gctx := errgroup.WithContext(ctx)
	lines := make([]chan stampedLine, len(list))
	for i, ct := range list {
		lines[i] = make(chan stampedLine, 64)
		g.Go(func() error {
			defer close(lines[i])
			err := readStamped(gctx, c, ct, o, lines[i])
			if client.IsNotFound(err) || a.lost(ct.ID, err) {
				return nil // removed meanwhile, or its node has gone
			}
			return err
		})
	}
	g.Go(func() error {
		return mergeLines(lines, func(l stampedLine) error {
			if stamps {
				return p.print(l.ct, l.text)
			}
			return p.print(l.ct, l.bare)
		})
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// readStamped sends one container's lines. A piece of a long line has no time: it has that of the one before.
func readStamped(ctx context.Context, c *client.Client, ct container.Summary, o runtime.LogOptions, to chan<- stampedLine) error {
	var last time.Time
	send := func(b []byte) error {
		l := stampedLine{ct: ct, text: bytes.Clone(b)}
		stamp, bare, _ := bytes.Cut(l.text, []byte(" "))
		if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
			last, l.bare = at, bare
		} else {
			l.bare = l.text
		}
		l.at = last
		select {
		case to <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stdout, stderr := &lineWriter{line: send}, &lineWriter{line: send}
	err := c.Logs(ctx, ct.ID, o, true, stdout, stderr)
	for _, w := range []*lineWriter{stdout, stderr} {
		if ferr := w.flush(); err == nil {
			err = ferr
		}
	}
	return err
}

// mergeLines hands on the lines of all channels, the earliest first, until all are closed.
func mergeLines(from []chan stampedLine, each func(stampedLine) error) error {
	h := &lineHeap{}
	for i, ch := range from {
		if l, open := <-ch; open {
			heap.Push(h, headLine{l, i})
		}
	}
	for h.Len() > 0 {
		first := (*h)[0]
		if err := each(first.stampedLine); err != nil {
			return err
		}
		if l, open := <-from[first.source]; open {
			(*h)[0] = headLine{l, first.source}
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
	}
	return nil
}

// headLine is the next line of one source.
type headLine struct {
	stampedLine
	source int
}

// lineHeap orders by time, and by source where times are equal.
type lineHeap []headLine

func (h lineHeap) Len() int { return len(h) }
func (h lineHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].source < h[j].source
}
func (h lineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)   { *h = append(*h, x.(headLine)) }
func (h *lineHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
