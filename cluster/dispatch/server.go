package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ServerConfig of a Server. Node, Leader, LeaderChanged and Peer are required.
type ServerConfig struct {
	Node          string                                // ID
	Leader        func() string                         // who leads; "": not known
	LeaderChanged func() <-chan struct{}                // closed when Leader may answer differently
	Peer          func(net.Conn) (node string, ok bool) // at the other end of an authenticated connection
	Terms         func(nodes int) Terms                 // nil: DefaultTerms
	Log           *slog.Logger
}

// Server takes the sessions of all nodes while its manager leads, and sends
// them to the leader otherwise.
type Server struct {
	cfg  ServerConfig
	log  *slog.Logger
	book *specBook
	grpc *grpc.Server

	greet time.Duration // greetTime

	mu     sync.Mutex
	reign  *reign         // guarded by mu: nil while another manager leads
	change chan struct{}  // guarded by mu: closed when reign or a session changes
	calls  map[string]int // guarded by mu: under way, by node
}

const (
	greetTime = 10 * time.Second // until a call must have said its greeting
	maxCalls  = 16               // of one node at a time; it needs one, and another while that one ends
)

// NewServer returns a server that sends everybody away until Lead.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Terms == nil {
		cfg.Terms = DefaultTerms
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("part", "dispatch"), book: newSpecBook(), greet: greetTime, change: make(chan struct{}), calls: map[string]int{}}
	s.grpc = newGRPC(s, cfg.Peer)
	return s
}

// Serve takes connections from l until Stop.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve agent sessions: %w", err)
	}
	return nil
}

// Stop ends all sessions and Serve.
func (s *Server) Stop() { s.grpc.Stop() }

// Lead serves sessions from core until ctx ends, which is to be when core has
// lost its leadership, and returns when the last one has ended.
func (s *Server) Lead(ctx context.Context, core Core) error {
	if err := core.Verify(ctx); err != nil { // what the leader before has committed counts
		return fmt.Errorf("lead agent sessions: %w", err)
	}
	r := newReign(s, core)
	if err := r.spread(); err != nil { // before the first session: an empty view says that there is no network
		return fmt.Errorf("lead agent sessions: %w", err)
	}
	s.mu.Lock()
	if s.reign != nil {
		s.mu.Unlock()
		return errors.New("lead agent sessions: this manager leads already")
	}
	s.reign = r
	s.pokeLocked()
	s.mu.Unlock()
	err := r.run(ctx)
	s.mu.Lock()
	s.reign = nil
	s.pokeLocked()
	s.mu.Unlock()
	r.end(s.cfg.Leader())
	return err
}

// Session is what the leader knows of a node's calls.
type Session struct {
	Node        string
	Connected   bool
	Heard       time.Time // last word, or when this process woke up after it; of this machine's monotonic clock
	LeaseEnds   time.Time // when the node gives up by itself at the latest; likewise
	Description Description
}

// Sessions returns the nodes that have called since this manager leads, by ID;
// nil while another one leads.
func (s *Server) Sessions() map[string]Session {
	s.mu.Lock()
	r := s.reign
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.sessions()
}

// Since is when this manager's Lead began; false while another one leads.
func (s *Server) Since() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reign == nil {
		return time.Time{}, false
	}
	return s.reign.began, true
}

// Terms are those that sessions get now.
func (s *Server) Terms() Terms {
	s.mu.Lock()
	r := s.reign
	s.mu.Unlock()
	if r == nil {
		return s.cfg.Terms(0)
	}
	return r.terms()
}

// Changed is closed when a node has called, has gone, has described itself
// anew, or its lease has ended.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change
}

// Forget ends the session of a node that is no part of the cluster any more.
func (s *Server) Forget(node string) {
	s.mu.Lock()
	r := s.reign
	s.mu.Unlock()
	if r != nil {
		r.forget(node)
	}
}

// Recall ends the session of a node that is held for dead, if it has one all the
// same: it calls again, and is alive again then. What is known of it stays.
func (s *Server) Recall(node string) {
	s.mu.Lock()
	r := s.reign
	s.mu.Unlock()
	if r != nil {
		r.recall(node)
	}
}

func (s *Server) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pokeLocked()
}

func (s *Server) pokeLocked() {
	close(s.change)
	s.change = make(chan struct{})
}

// leads returns the reign to call at, or whom to call instead. It waits for a
// leader to be known, so that nodes which look for one in an election find it at
// once. A node that has lost the leader may know before this manager does.
func (s *Server) leads(ctx context.Context, lost string) (*reign, *bye) {
	deadline, doubt := time.NewTimer(parking), time.NewTimer(doubting)
	defer deadline.Stop()
	defer doubt.Stop()
	for {
		elected := s.cfg.LeaderChanged()
		s.mu.Lock()
		r, changed := s.reign, s.change
		s.mu.Unlock()
		if r != nil {
			return r, nil
		}
		if l := s.cfg.Leader(); l != "" && l != s.cfg.Node && l != lost {
			return nil, &bye{Leader: l, Reason: "another manager leads"}
		}
		select {
		case <-ctx.Done():
			return nil, &bye{Reason: "the call has ended"}
		case <-deadline.C:
			return nil, &bye{Reason: "no manager leads"}
		case <-doubt.C:
			lost = ""
		case <-elected:
		case <-changed:
		}
	}
}

// enter counts a call; false: its node has too many.
func (s *Server) enter(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[node] >= maxCalls {
		return false
	}
	s.calls[node]++
	return true
}

func (s *Server) leave(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[node]--; s.calls[node] == 0 {
		delete(s.calls, node)
	}
}

const (
	parking  = 10 * time.Second // that a node waits here for a leader to be known
	doubting = 2 * time.Second  // that it waits for another leader than the one it has lost; an election is over by then
)

// handle is one session, in grpc's goroutine.
func (s *Server) handle(stream grpc.ServerStream) error {
	ctx := stream.Context()
	node, err := caller(ctx)
	if err != nil {
		return refuse(err)
	}
	if !s.enter(node) {
		return status.Errorf(codes.ResourceExhausted, "node %s: too many calls at a time", node)
	}
	defer s.leave(node)
	h, err := greeting(stream, s.greet)
	if err != nil {
		return refuse(err)
	}
	r, no := s.leads(ctx, h.Lost)
	if no != nil {
		return stream.SendMsg(&fromServer{Bye: no})
	}
	return r.serve(stream, node, h)
}
