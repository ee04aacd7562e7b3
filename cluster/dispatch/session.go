package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dhow-project/dhow/stack"
)

// session is one node's call. Its handler's goroutine receives, one sends, and
// one writes to the state, so that neither a slow node nor a slow disk keeps
// heartbeats waiting.
type session struct {
	reign *reign
	node  string

	wake chan struct{} // capacity 1: the sender has something to do
	work chan struct{} // capacity 1: the writer has something to do
	quit context.CancelCauseFunc

	mu      sync.Mutex
	acked   *ack            // guarded by mu: to be sent
	answers []reported      // guarded by mu: to be sent
	leave   *bye            // guarded by mu: to be sent, as the last word
	dirty   bool            // guarded by mu: something may have changed for the node
	all     bool            // guarded by mu: all its tasks may have
	touched map[string]bool // guarded by mu: these may have
	again   bool            // guarded by mu: its topics may be others
	topics  map[string]bool // guarded by mu: these have news
	report  *report         // guarded by mu: to be stored
	says    *Description    // guarded by mu: to be stored
}

// updateEvery is the least time between two updates of a session: what changes
// meanwhile is told together.
const updateEvery = 10 * time.Millisecond

// goodbye is how long a node has to take the last word.
const goodbye = time.Second

// greeting receives and checks the first message.
func greeting(stream grpc.ServerStream, within time.Duration) (*hello, error) {
	m := &fromClient{}
	received := make(chan error, 1)
	go func() { received <- stream.RecvMsg(m) }() // ends with the stream, that is when its handler returns
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case err := <-received:
		if err != nil {
			return nil, err
		}
	case <-late.C:
		return nil, status.Error(codes.DeadlineExceeded, "no greeting came")
	}
	if err := m.check(true); err != nil {
		return nil, err
	}
	return m.Hello, nil
}

// refuse tells a peer that breaks the rules.
func refuse(err error) error {
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// serve is a session from its greeting to its end.
func (r *reign) serve(stream grpc.ServerStream, node string, h *hello) error {
	ctx, quit := context.WithCancelCause(stream.Context())
	defer quit(nil)
	s := &session{
		reign: r, node: node, quit: quit, dirty: true, all: true, again: true, touched: map[string]bool{}, topics: map[string]bool{},
		wake: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	if !r.enter(s, h.Description) {
		return stream.SendMsg(&fromServer{Bye: &bye{Reason: "this manager does not lead any more"}})
	}
	defer r.leave(s)
	log := r.server.log.With("node", node)
	log.Debug("session begins", "tasks", len(h.Tasks))
	s.store(nil, &h.Description)
	var loops sync.WaitGroup
	loops.Go(func() { quit(s.send(ctx, stream, h)) })
	loops.Go(func() { s.write(ctx) })
	received := make(chan error, 1)
	go func() { received <- s.receive(ctx, stream) }() // ends with the stream, that is when this returns
	select {
	case err := <-received:
		quit(err)
	case <-ctx.Done():
	}
	loops.Wait()
	err := context.Cause(ctx)
	log.Debug("session ends", "error", err)
	if errors.Is(err, errBye) || errors.Is(err, context.Canceled) {
		return nil
	}
	return refuse(err)
}

var errBye = errors.New("the session was ended")

// receive takes the node's messages in.
func (s *session) receive(ctx context.Context, stream grpc.ServerStream) error {
	for {
		m := &fromClient{}
		if err := stream.RecvMsg(m); err != nil {
			return err
		}
		if err := m.check(false); err != nil {
			return err
		}
		switch {
		case m.Beat != nil:
			s.reign.heard(s, m.Beat.Seq)
		case m.Report != nil:
			if !s.store(m.Report, nil) {
				return errors.New("a report came before the last one was answered")
			}
		case m.Describe != nil:
			s.reign.describe(s, *m.Describe)
			s.store(nil, m.Describe)
		}
	}
}

// store hands something to the writer. It is false for a second report before
// the first one's answer was sent; of descriptions the last one counts.
func (s *session) store(r *report, d *Description) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != nil {
		if s.report != nil || len(s.answers) > 0 {
			return false
		}
		s.report = r
	}
	if d != nil {
		s.says = d
	}
	select {
	case s.work <- struct{}{}:
	default:
	}
	return true
}

// describeEvery is the least time between two descriptions that are stored:
// each can be a command.
const describeEvery = 500 * time.Millisecond

// write stores what the node says.
func (s *session) write(ctx context.Context) {
	var retry <-chan time.Time
	var next time.Time // when a description may be stored
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry:
		case <-s.work:
		}
		s.mu.Lock()
		r, d := s.report, s.says
		early := time.Until(next)
		if d != nil && early > 0 {
			d, retry = nil, time.After(early)
		} else if d != nil {
			s.says, retry, next = nil, nil, time.Now().Add(describeEvery)
		}
		s.mu.Unlock()
		if r != nil {
			list, bad := r.usable()
			if bad != nil {
				s.reign.server.log.Warn("a node reports what cannot be", "node", s.node, "error", bad)
			}
			s.answer(r, s.reign.core.Report(ctx, s.node, list))
		}
		if d != nil && !s.hello(ctx, d) {
			retry = time.After(again)
		}
	}
}

// again is how long after a failure a description is stored once more.
const again = 250 * time.Millisecond

func (s *session) answer(r *report, err error) {
	answer := reported{Seq: r.Seq}
	if err != nil {
		answer.Error = err.Error()
	}
	s.mu.Lock()
	s.report = nil
	s.answers = append(s.answers, answer)
	s.mu.Unlock()
	s.poke()
}

// hello stores a description; the node does not say it again, so on a failure
// it is kept, unless a newer one has come or it can never be stored.
func (s *session) hello(ctx context.Context, d *Description) bool {
	err := s.reign.core.Hello(ctx, s.node, *d)
	if err == nil || ctx.Err() != nil {
		return true
	}
	s.reign.server.log.Warn("store a node's description", "node", s.node, "error", err)
	if errors.Is(err, ErrRefused) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.says == nil {
		s.says = d
	}
	return false
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// touch says that something changed for the node: all of it, or these tasks.
func (s *session) touch(all bool, tasks []string) {
	s.mu.Lock()
	s.dirty, s.again = true, true
	s.all = s.all || all
	for _, t := range tasks {
		s.touched[t] = true
	}
	s.mu.Unlock()
	s.poke()
}

// touchBoard says that the board has changed.
func (s *session) touchBoard() {
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	s.poke()
}

// touchTopic says that a directory which the session reads has changed.
func (s *session) touchTopic(topic string) {
	s.mu.Lock()
	s.dirty, s.topics[topic] = true, true
	s.mu.Unlock()
	s.poke()
}

func (s *session) ack(seq uint64, t Terms) {
	s.mu.Lock()
	s.acked = &ack{seq, t}
	s.mu.Unlock()
	s.poke()
}

// stop ends the session with a last word.
func (s *session) stop(b *bye) {
	s.mu.Lock()
	if s.leave == nil {
		s.leave = b
		time.AfterFunc(goodbye, func() { s.quit(errBye) }) // it may not read any more
	}
	s.mu.Unlock()
	s.poke()
}

// send is the only one that writes to the stream. What is short goes first.
func (s *session) send(ctx context.Context, stream grpc.ServerStream, h *hello) error {
	if err := stream.SendMsg(&fromServer{Welcome: &welcome{protocol, s.reign.terms()}}); err != nil {
		return err
	}
	d := newDiffer(s.reign.server.book, h.Tasks, h.Specs)
	seen := &reader{sums: h.Buckets}
	subs := &subscriptions{session: s, topics: map[string]*reader{}, kept: h.Topics}
	defer subs.end()
	var rest []update // parts not sent yet
	var next <-chan time.Time
	due := true
	for {
		if err := s.short(stream); err != nil {
			return err
		}
		if len(rest) == 0 && due {
			var err error
			if rest, err = s.news(d, seen, subs); err != nil {
				return fmt.Errorf("tell node %s of its tasks: %w", s.node, err)
			}
			if len(rest) > 0 {
				due, next = false, time.After(updateEvery)
			}
		}
		if len(rest) > 0 {
			if err := stream.SendMsg(&fromServer{Update: &rest[0]}); err != nil {
				return err
			}
			rest = rest[1:]
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-next:
			due, next = true, nil
		}
	}
}

// short sends acknowledgements, answers and the last word.
func (s *session) short(stream grpc.ServerStream) error {
	s.mu.Lock()
	acked, answers, leave := s.acked, s.answers, s.leave
	s.acked, s.answers = nil, nil
	s.mu.Unlock()
	for i := range answers {
		if err := stream.SendMsg(&fromServer{Reported: &answers[i]}); err != nil {
			return err
		}
	}
	if leave != nil {
		if err := stream.SendMsg(&fromServer{Bye: leave}); err != nil {
			return err
		}
		return errBye
	}
	if acked != nil {
		return stream.SendMsg(&fromServer{Ack: acked})
	}
	return nil
}

// reader is how far a session has read the board.
type reader struct {
	sums   []uint64 // of what the node kept of a former session
	read   bool
	number uint64
}

// news makes the parts of the next update; none when nothing changed.
func (s *session) news(d *differ, seen *reader, subs *subscriptions) ([]update, error) {
	index := s.reign.posted() // before asking what is touched: that is all up to here
	s.mu.Lock()
	dirty, all, touched, again, topics := s.dirty, s.all, s.touched, s.again, s.topics
	s.dirty, s.all, s.again, s.touched, s.topics = false, false, false, map[string]bool{}, map[string]bool{}
	s.mu.Unlock()
	if !dirty {
		return nil, nil
	}
	first := !seen.read
	list := []update{{}}
	if all || len(touched) > 0 {
		var err error
		if list, err = d.next(s.tasks(), all, touched); err != nil {
			return nil, err
		}
	}
	if all { // not only the tasks of changes that are posted
		if err := s.reign.catchUp(s.reign.core.Index()); err != nil {
			return nil, err
		}
		s.mu.Lock()
		again = again || s.again
		maps.Copy(topics, s.topics)
		s.again, s.topics = false, map[string]bool{}
		s.mu.Unlock()
	}
	posted := s.reign.news(seen) // after the tasks, and so are directories: what they need is there
	directories, err := subs.next(again, topics)
	if err != nil {
		return nil, err
	}
	if list = pin(list, posted, directories); len(list) == 1 && list[0].empty() && !first {
		return nil, nil
	}
	for i := range list {
		list[i].Index = index
	}
	return list, nil
}

func (s *session) tasks() []stack.Assignment { return s.reign.core.Assignments(s.node) }

// pin puts the news of the board and of directories into the parts before the tasks'.
func pin(list []update, posted *news, directories []topicNews) []update {
	if posted == nil && len(directories) == 0 {
		return list
	}
	p := &parts{list: []update{{}}}
	if posted != nil {
		p.last().Board = &news{Clear: posted.Clear, Gone: posted.Gone}
		p.size += rough(p.last().Board)
		for _, it := range posted.Items {
			u := p.room(len(it.Key) + len(it.Data) + 40)
			if u.Board == nil {
				u.Board = &news{}
			}
			u.Board.Items = append(u.Board.Items, it)
		}
	}
	for _, d := range directories {
		p.directory(d)
	}
	if len(list) == 1 && list[0].empty() {
		return p.list
	}
	p.last().More = true
	return append(p.list, list...)
}

// directory adds a directory's news, in as many parts as they need.
func (p *parts) directory(d topicNews) {
	head := topicNews{Topic: d.Topic, End: d.End, Of: d.Of}
	if d.News == nil {
		u := p.room(len(d.Topic) + 40)
		u.Topics = append(u.Topics, head)
		return
	}
	head.News = &news{Clear: d.News.Clear, Gone: d.News.Gone}
	u := p.room(len(d.Topic) + rough(head.News) + 40)
	u.Topics = append(u.Topics, head)
	for _, it := range d.News.Items {
		u := p.room(len(it.Key) + len(it.Data) + 40)
		if n := len(u.Topics); n == 0 || u.Topics[n-1].Topic != d.Topic {
			u.Topics = append(u.Topics, topicNews{Topic: d.Topic, News: &news{}})
		}
		at := u.Topics[len(u.Topics)-1].News
		at.Items = append(at.Items, it)
	}
}

// rough is about how long news without items are.
func rough(n *news) int {
	size := 4 * len(n.Clear)
	for _, key := range n.Gone {
		size += len(key) + 4
	}
	return size
}

// news of the board for one reader.
func (r *reign) news(seen *reader) *news {
	r.mu.Lock()
	defer r.mu.Unlock()
	number := seen.number
	seen.number = r.board.number
	if seen.read {
		return r.board.since(number, buckets)
	}
	seen.read = true
	return r.board.all(seen.sums, buckets)
}
