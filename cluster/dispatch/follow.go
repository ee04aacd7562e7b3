package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// remote is a session with the leader on another node.
type remote struct {
	client *Client
	wire   *wire
	leader string
	cancel context.CancelFunc // of the search that made it
	terms  Terms
	out    chan *fromClient // to the sender
	told   bool             // the first update has been taken in; run's own

	mu    sync.Mutex
	seq   uint64                   // guarded by mu: of the last report
	asked map[uint64]chan<- string // guarded by mu: reports without an answer; the answer is an error's text

	one    chan struct{} // capacity 1: held by the report that is under way, until its answer
	closed chan struct{} // when the session has ended
}

var errSessionEnded = errors.New("the session with the leader ended before it answered")

// report sends statuses and waits for the answer.
func (r *remote) report(ctx context.Context, reports []stack.TaskReport) error {
	select {
	case r.one <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.closed:
		return errSessionEnded
	}
	answer := make(chan string, 1)
	r.mu.Lock()
	r.seq++
	seq := r.seq
	r.asked[seq] = answer
	r.mu.Unlock()
	select {
	case r.out <- &fromClient{Report: &report{seq, reports}}:
	case <-ctx.Done():
		<-r.one
		return ctx.Err()
	case <-r.closed:
		return errSessionEnded
	}
	select {
	case text := <-answer:
		if text != "" {
			return errors.New(text)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err() // its answer will make way for the next one
	case <-r.closed:
		return errSessionEnded
	}
}

// follow finds the leader and keeps a session with it. It returns an error if
// there was none, and else who is said to lead now, "" if that is not known.
func (c *Client) follow(ctx context.Context, hint string) (string, error) {
	r, err := c.find(ctx, c.managers(hint), c.lost)
	if err != nil {
		return "", err
	}
	ctx, drop := context.WithCancelCause(ctx)
	defer drop(nil)
	c.log.Info("session with the leader", "leader", r.leader)
	c.use(r, r.leader, drop)
	next, err := r.run(ctx)
	c.use(nil, "", nil)
	c.lease.forget()
	if c.lost = ""; next == "" {
		c.lost = r.leader
	}
	c.log.Info("session with the leader has ended", "leader", r.leader, "next", next, "error", err)
	return next, nil
}

// run receives until the session ends.
func (r *remote) run(ctx context.Context) (next string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var loops sync.WaitGroup
	defer func() {
		cancel(nil)
		r.wire.close()
		r.cancel()
		loops.Wait()
		close(r.closed)
	}()
	messages := make(chan *fromServer)
	loops.Go(func() { cancel(r.receive(ctx, messages)) })
	loops.Go(func() { cancel(r.send(ctx)) })
	tick := time.NewTicker(r.terms.Beat)
	defer tick.Stop()
	check := time.NewTicker(max(r.terms.Beat/4, 5*time.Millisecond))
	defer check.Stop()
	started := time.Now()
	r.beat(started)
	for {
		wake := r.client.wake()
		if r.client.local() != nil {
			return "", errors.New("this node leads itself")
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-wake:
		case <-tick.C:
			r.beat(time.Now())
		case <-check.C:
			if late := r.client.lease.overdue(time.Now()); late > r.terms.patience() {
				return "", fmt.Errorf("a heartbeat has had no answer for %v", late.Round(time.Millisecond))
			}
		case <-r.client.described:
			r.queue(&fromClient{Describe: ptr(r.client.describe())})
		case m := <-messages:
			if m.Bye != nil {
				return m.Bye.Leader, errors.New(m.Bye.Reason)
			}
			if err := r.take(m, started); err != nil {
				return "", err
			}
			if m.Ack != nil && m.Ack.Terms != r.terms {
				r.terms = m.Ack.Terms
				tick.Reset(r.terms.Beat)
				check.Reset(max(r.terms.Beat/4, 5*time.Millisecond))
			}
		}
	}
}

// take takes in one message.
func (r *remote) take(m *fromServer, started time.Time) error {
	switch {
	case m.Ack != nil:
		r.client.lease.acked(m.Ack.Seq, m.Ack.Terms, r.told)
	case m.Reported != nil:
		r.mu.Lock()
		answer := r.asked[m.Reported.Seq]
		delete(r.asked, m.Reported.Seq)
		r.mu.Unlock()
		if answer != nil {
			answer <- m.Reported.Error
			<-r.one
		}
	case m.Update != nil:
		// After this process stood still, what waits to be read may be long out of
		// date. A new session says what counts now.
		now := time.Now()
		if holds, _ := r.client.lease.holds(now); !holds && now.Sub(started) > r.terms.Lease {
			return errors.New("the lease has ended: what was sent before does not count")
		}
		if err := r.client.mirror.take(m.Update); err != nil {
			r.client.mirror.distrust()
			return fmt.Errorf("take in an update: %w", err)
		}
		if !m.Update.More {
			r.told = true
			r.client.cache.poke()
		}
	}
	return nil
}

// beat sends a heartbeat.
func (r *remote) beat(now time.Time) {
	r.client.beats++
	r.client.lease.beat(r.client.beats, now)
	r.queue(&fromClient{Beat: &beat{r.client.beats}})
}

// queue drops what does not fit: a sender that is stuck for so long is noticed
// by the heartbeats that stay unanswered.
func (r *remote) queue(m *fromClient) {
	select {
	case r.out <- m:
	default:
	}
}

func (r *remote) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-r.out:
			if err := r.wire.send(m); err != nil {
				if errors.Is(err, io.EOF) { // the reason comes to the receiver
					<-ctx.Done()
					return ctx.Err()
				}
				return err
			}
		}
	}
}

func (r *remote) receive(ctx context.Context, to chan<- *fromServer) error {
	for {
		m, err := r.wire.receive()
		if err != nil {
			return err
		}
		if err := m.check(false); err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func ptr[T any](v T) *T { return &v }
