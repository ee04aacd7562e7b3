package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
)

// kept is a request's body that can be sent more than once, unless it is too large for that.
type kept struct {
	data  []byte
	rest  io.Reader // after data; nil when whole
	whole bool
}

// keepBody reads r's body, as far as maxBody, so that a request that reached
// the wrong node can be sent to the right one.
func keepBody(r *http.Request) (*kept, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &kept{whole: true}, nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if len(data) <= maxBody {
		return &kept{data: data, whole: true}, nil
	}
	return &kept{data: data, rest: r.Body}, nil
}

func (k *kept) reader() io.ReadCloser {
	switch {
	case k.rest != nil:
		return io.NopCloser(io.MultiReader(bytes.NewReader(k.data), k.rest))
	case len(k.data) == 0:
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(k.data))
}

// request is r with the body from its beginning.
func (k *kept) request(r *http.Request) *http.Request {
	r2 := r.WithContext(r.Context())
	r2.Body = k.reader()
	return r2
}

// passing is how a request is passed on.
type passing struct {
	body     *kept // nil: r's own, once
	toLeader bool  // failing that, another leader may be asked
	maybe    bool  // an attempt before may have done it
	path     string
	inspect  func([]byte) // sees the body of a success, which must be small
}

// pass sends r to another node and its answer to w. An error that wraps
// cluster.ErrNotLeader means that nothing has been done, one that wraps
// cluster.ErrLeaderLost that this is not known.
func (s *server) pass(w http.ResponseWriter, r *http.Request, node string, how passing) error {
	ctx, stop := s.whileUp(r.Context(), node, how.toLeader)
	defer stop(nil)
	resp, err := s.Cluster.Transport(node).RoundTrip(outgoing(ctx, r, how))
	if err != nil {
		return s.unanswered(ctx, node, how.toLeader, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	switch outcome := resp.Header.Get(api.OutcomeHeader); {
	case resp.StatusCode == http.StatusServiceUnavailable && outcome == api.OutcomeNone:
		return say(cluster.ErrNotLeader, "%s", messageOf(resp))
	case resp.StatusCode == http.StatusServiceUnavailable && outcome == api.OutcomeUnknown:
		return say(cluster.ErrLeaderLost, "%s", messageOf(resp))
	case resp.StatusCode == http.StatusNotFound && how.maybe && r.Method == http.MethodDelete:
		return noContent(w, nil) // the attempt before has done it
	}
	err = relay(w, resp, how.inspect)
	if err == nil && errors.Is(context.Cause(ctx), errNodeGone) {
		return errNodeGone // the other side may have ended what we cut as if it were complete
	}
	return err
}

// messageOf is what another node says in an error.
func messageOf(resp *http.Response) string {
	var said api.Error
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil || json.Unmarshal(data, &said) != nil || said.Message == "" {
		return resp.Status
	}
	return said.Message
}

// unanswered is the error of a request that had no answer.
func (s *server) unanswered(ctx context.Context, node string, toLeader bool, err error) error {
	cause := context.Cause(ctx)
	gone := errors.Is(cause, errNodeGone)
	if ctx.Err() != nil && !gone {
		return cause // the client has gone
	}
	nothing := errors.Is(err, cluster.ErrUnreachable)
	switch {
	case toLeader && nothing:
		return fmt.Errorf("%s cannot be reached: %w", s.nameOf(node), cluster.ErrNotLeader)
	case toLeader:
		return fmt.Errorf("%s did not answer: %w", s.nameOf(node), cluster.ErrLeaderLost)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer: %w", s.nameOf(node), cluster.ErrUnreachable)
	case nothing, gone:
		return fmt.Errorf("%s: %w", s.nameOf(node), cluster.ErrUnreachable)
	}
	return fmt.Errorf("%s: connection lost: %w: %w", s.nameOf(node), err, cluster.ErrUnreachable)
}

// outgoing is r as it is sent to another node.
func outgoing(ctx context.Context, r *http.Request, how passing) *http.Request {
	path := how.path
	if path == "" {
		path = r.URL.Path
	}
	if version, ok := r.Context().Value(versionKey{}).(string); ok {
		path = "/v" + version + path
	}
	out := (&http.Request{
		Method: r.Method, Host: "dhow", Header: r.Header.Clone(), ProtoMajor: 1, ProtoMinor: 1,
		URL:  &url.URL{Scheme: "http", Host: "dhow", Path: path, RawQuery: r.URL.RawQuery},
		Body: r.Body, ContentLength: r.ContentLength,
	}).WithContext(ctx)
	for _, h := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Expect", api.NodeHeader} {
		out.Header.Del(h)
	}
	if b := how.body; b != nil {
		out.Body, out.ContentLength = b.reader(), -1
		if b.whole {
			out.ContentLength = int64(len(b.data))
			out.GetBody = func() (io.ReadCloser, error) { return b.reader(), nil }
		}
	}
	if out.ContentLength == 0 {
		out.Body = http.NoBody
	}
	return out
}

// relay sends another node's answer on, each piece as it comes. Failing midway,
// the client's connection is cut, so that it notices.
func relay(w http.ResponseWriter, resp *http.Response, inspect func([]byte)) error {
	h := w.Header()
	for key, values := range resp.Header {
		if key != "Connection" && key != "Keep-Alive" && key != "Transfer-Encoding" && key != "Date" {
			h[key] = values
		}
	}
	body := io.Reader(resp.Body)
	if inspect != nil && resp.StatusCode < 300 {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		inspect(data)
		body = bytes.NewReader(data)
	}
	w.WriteHeader(resp.StatusCode)
	if resp.ContentLength < 0 { // a stream: that it has begun is part of the answer
		if http.NewResponseController(w).Flush() != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
	return flow(w, body)
}

// flow copies from a stream and flushes what it has whenever it would wait for more.
func flow(w http.ResponseWriter, from io.Reader) error {
	ctl := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return nil //nolint:nilerr // the client has gone
			}
			if ferr := ctl.Flush(); ferr != nil {
				return nil //nolint:nilerr // likewise
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errNodeGone ends what waits for a node that is found to be down.
var errNodeGone = errors.New("the node is down")

const (
	lookAround = 250 * time.Millisecond // between two looks at whether the node is still there
	downTime   = 2 * time.Second        // for a node that is held for dead, to prove the opposite
	deposed    = 500 * time.Millisecond // for a leader that is none any more, to say so itself: it stepped down before another was elected
)

// whileUp is ctx until the node is down: a machine that is cut off or stopped
// closes no connection. With leader it also ends when another node has led for
// a while and this one has not answered, or when none has been known to lead for
// as long as a request waits for one: then it is this node that is cut off.
func (s *server) whileUp(ctx context.Context, node string, leader bool) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(lookAround)
		defer tick.Stop()
		first := time.Duration(0)
		if s.down(node) {
			first = downTime // it may be up again: others have not heard of it yet
		}
		doubt, before := time.Duration(0), time.Duration(0)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			limit := s.doubted(node, leader)
			if limit == 0 {
				first = 0
			}
			if limit != before { // for another reason
				doubt, before = 0, limit
			}
			if doubt += lookAround; limit > 0 && doubt >= max(limit, first) {
				cancel(errNodeGone)
				return
			}
		}
	}()
	return ctx, cancel
}

// doubted is for how long a node may give no answer, given what is known of it
// now; 0: for as long as it likes.
func (s *server) doubted(node string, leader bool) time.Duration {
	now, known := s.Cluster.Leader()
	switch {
	case s.down(node), leader && known && now != node:
		return deposed
	case leader && !known:
		return leaderPatience
	}
	return 0
}

// down reports whether the cluster holds a node for dead.
func (s *server) down(node string) bool {
	for _, p := range s.Cluster.Peers() {
		if p.ID == node {
			return p.Down
		}
	}
	return false
}

// nameOf is a node as people know it.
func (s *server) nameOf(node string) string {
	for _, p := range s.Cluster.Peers() {
		if p.ID == node && p.Hostname != "" {
			return "node " + p.Hostname
		}
	}
	return "node " + node
}
