package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
)

// watchStack sends the stack's status now and after every change, one JSON
// object a line, until the client leaves or the stack is gone. What was applied
// is in the first line and in those after it has changed: a stack in motion
// changes with every word about a task, and its definition is most of the line.
//
// The lines come from the node that leads; when another takes over, they go on
// from there, with a line that has everything.
func (s *server) watchStack(w http.ResponseWriter, r *http.Request) error {
	if s.Stacks == nil {
		return errNoStacks
	}
	out := &lineWriter{w: w}
	stale, err := wantsStale(r)
	if err != nil {
		return err
	}
	switch {
	case s.Cluster == nil:
		err = s.watchHere(r.Context(), r.PathValue("name"), out)
	case stale && s.Cluster.Local().Manager:
		s.sayConsistency(w, "stale")
		err = s.watchHere(r.Context(), r.PathValue("name"), out)
	case forwarded(r):
		err = s.leadForwarded(w, r, read, func(http.ResponseWriter, *http.Request) error { return s.watchLeading(r, out) })
	default:
		err = s.watchLeader(w, r, out)
	}
	if out.begun && errors.Is(err, runtime.ErrNotFound) {
		return nil // removed: the end of the stream says so
	}
	if out.begun && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the daemon ends: a good end would say that the stack is gone
	}
	if out.begun && err != nil && !forwarded(r) { // a leader that leads no more is followed by another
		return errors.Join(err, out.last(api.WatchEnd{Failed: wordsOf(err)}))
	}
	return err
}

// lineWriter sends lines at once.
type lineWriter struct {
	w     http.ResponseWriter
	begun bool
	lines int
}

func (l *lineWriter) line(data []byte) error {
	if !l.begun {
		l.w.Header().Set("Content-Type", "application/jsonl")
		l.w.WriteHeader(http.StatusOK)
		l.begun = true
	}
	l.lines++
	if _, err := l.w.Write(data); err != nil {
		return err
	}
	return http.NewResponseController(l.w).Flush()
}

// last sends why there are no more lines.
func (l *lineWriter) last(end api.WatchEnd) error {
	data, err := json.Marshal(end)
	if err != nil {
		return err
	}
	return l.line(append(data, '\n'))
}

// watchHere sends lines from this node's state. Its end without an error is that of ctx or of the client.
func (s *server) watchHere(ctx context.Context, name string, out *lineWriter) error {
	changed := s.Stacks.Changed()
	st, news, err := s.Stacks.StackSince(name, 0)
	for sent := uint64(0); ; {
		if err != nil {
			return err
		}
		if news {
			data, err := json.Marshal(s.toStackStatus(&st))
			if err != nil {
				return err
			}
			if out.line(append(data, '\n')) != nil {
				return nil //nolint:nilerr // the client has gone
			}
			sent = st.Index
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		changed = s.Stacks.Changed()
		st, news, err = s.Stacks.StackSince(name, sent)
	}
}

// watchLeading is watchHere for as long as this node leads.
func (s *server) watchLeading(r *http.Request, out *lineWriter) error {
	if err := s.Cluster.Verify(r.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	deposed := make(chan struct{})
	go func() {
		for {
			changed := s.Cluster.LeaderChanged()
			if leader, known := s.Cluster.Leader(); !known || leader != s.Cluster.Self() {
				close(deposed)
				cancel()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := s.watchHere(ctx, r.PathValue("name"), out)
	select {
	case <-deposed:
		return fmt.Errorf("watch: %w", cluster.ErrNotLeader)
	default:
		return err
	}
}

// watchLeader sends lines of whichever node leads.
func (s *server) watchLeader(w http.ResponseWriter, r *http.Request, out *lineWriter) error {
	for {
		before := out.lines
		err := s.watchPatiently(w, r, out)
		if out.lines == before || r.Context().Err() != nil {
			return err
		}
		if retry, _ := undone(err, read); !retry {
			return err
		}
	}
}

// watchPatiently waits for a leader and sends its lines until it leads no more.
func (s *server) watchPatiently(w http.ResponseWriter, r *http.Request, out *lineWriter) error {
	patience, cancel := context.WithTimeout(r.Context(), leaderPatience)
	defer cancel()
	before := out.lines
	for {
		changed := s.Cluster.LeaderChanged()
		leader, known := s.Cluster.Leader()
		err := s.noLeader(s.Cluster.Local())
		switch {
		case known && leader == s.Cluster.Self():
			s.sayConsistency(w, "consistent")
			err = s.watchLeading(r, out)
		case known:
			err = s.watchThere(r, leader, out)
		}
		if retry, _ := undone(err, read); !retry || out.lines > before {
			return err
		}
		if wait(patience, changed) {
			continue
		}
		if _, known := s.Cluster.Leader(); !known {
			return s.noLeader(s.Cluster.Local())
		}
		return err
	}
}

// watchThere sends the lines of another node.
func (s *server) watchThere(r *http.Request, node string, out *lineWriter) error {
	ctx, stop := s.whileUp(r.Context(), node, true)
	defer stop(nil)
	body, err := s.open(ctx, node, "/dhow/v1/stacks/"+url.PathEscape(r.PathValue("name"))+"/watch")
	if errors.Is(err, runtime.ErrNotFound) {
		return err
	}
	if err != nil && errors.Is(context.Cause(ctx), errNodeGone) {
		err = fmt.Errorf("%s does not answer", s.nameOf(node))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, cluster.ErrNotLeader) // a watch changes nothing
	}
	defer body.Close() //nolint:errcheck // it is only read
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF) && ctx.Err() == nil:
			return runtime.ErrNotFound
		case err != nil:
			return fmt.Errorf("%w: %w", err, cluster.ErrNotLeader)
		}
		if out.line(line) != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
}
