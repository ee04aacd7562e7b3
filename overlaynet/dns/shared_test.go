package dns

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// One question, asked a hundred times at once, goes out once; every asker gets
// the answer with his own number. What is not the same question goes out too.
func TestTheSameQuestionGoesOutOnce(t *testing.T) {
	var came atomic.Int32
	release := make(chan struct{})
	truth := saying("192.0.2.1")
	s := fixture(t, rawServer(t, func(q []byte) [][]byte {
		if came.Add(1) == 1 {
			<-release
		}
		return truth(q)
	}))
	const askers = 100
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			from := []string{"10.0.1.2", "10.0.1.4", "10.0.2.5"}[i%3]
			if got := lookup(t, s, from, "example.com", dns.TypeA); got != "NOERROR 192.0.2.1" {
				t.Errorf("got %q", got)
			}
		})
	}
	aboard(t, s, askers)
	close(release)
	wg.Wait()
	if n := came.Load(); n != 1 {
		t.Errorf("%d questions went out", n)
	}
	s.upstream.mu.Lock()
	defer s.upstream.mu.Unlock()
	if s.upstream.total+len(s.upstream.under)+len(s.upstream.flights) != 0 {
		t.Errorf("left: %+v", s.upstream)
	}
}

// aboard returns when all of so many askers wait for answers.
func aboard(t *testing.T, s *Server, askers int) {
	t.Helper()
	for start := time.Now(); ; runtime.Gosched() {
		s.upstream.mu.Lock()
		all := 0
		for _, f := range s.upstream.flights {
			all += f.aboard
		}
		s.upstream.mu.Unlock()
		if all == askers {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%d of %d askers wait for the same", all, askers)
		}
	}
}

// A question that was put for one asker, who goes before it is answered, is put
// again for the other who waits for the same. One who waits and goes is told at
// once.
func TestTheFirstAskerGoes(t *testing.T) {
	var came atomic.Int32
	truth := saying("192.0.2.1")
	s := fixture(t, rawServer(t, func(q []byte) [][]byte {
		if came.Add(1) == 1 {
			return nil
		}
		return truth(q)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ask := func(ctx context.Context, from string) chan []byte {
		done := make(chan []byte, 1)
		b, _ := newQuestion("example.com", dns.TypeA).Pack()
		b[0], b[1] = 0, 0
		_, e := s.answer(b, netip.MustParseAddr(from), netip.Addr{}, false, nil)
		s.upstream.start(ctx, e, func(r []byte) { done <- r })
		return done
	}
	first := ask(ctx, "10.0.1.2")
	for came.Load() == 0 {
		runtime.Gosched()
	}
	second := ask(t.Context(), "10.0.1.4")
	short, leave := context.WithCancel(t.Context())
	third := ask(short, "10.0.1.3")
	aboard(t, s, 3)
	leave()
	if r := <-third; r[3]&15 != codeFailed || came.Load() != 1 {
		t.Errorf("the third: %x", r)
	}
	select {
	case r := <-first:
		t.Errorf("the first was not asked to go: %x", r)
		first <- r
	default:
	}
	cancel()
	if r := <-first; r[3]&15 != codeFailed {
		t.Errorf("the first: %x", r)
	}
	if r := <-second; r[3]&15 != codeOK || came.Load() != 2 {
		t.Errorf("the second: %x; %d questions went out", r, came.Load())
	}
}

// A question over UDP is none over TCP, which may have a longer answer, and
// bytes behind it do not make it one.
func TestTheSameQuestionOverTCP(t *testing.T) {
	b, _ := newQuestion("example.com", dns.TypeA).Pack()
	key := func(tcp bool, behind string) string {
		q, code := readQuestion(append(slices.Clone(b), behind...))
		if code != codeOK {
			t.Fatal(code)
		}
		return (&errand{question: q, tcp: tcp}).key([]string{"192.0.2.1:53"})
	}
	for _, behind := range []string{"", "\x00tcp", "tcp", "tcp "} {
		if key(true, "") == key(false, behind) {
			t.Errorf("with %q behind it: both are %q", behind, key(true, ""))
		}
	}
}
