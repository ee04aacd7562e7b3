package port

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/stack"
)

// traffic dials and asks between all nodes without pause, with a new handshake
// each time, until stopped; any refusal is an error of the test.
func traffic(t *testing.T, nodes []*node) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var count atomic.Int64
	for _, from := range nodes {
		for _, to := range nodes {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for ctx.Err() == nil {
					from.CloseIdle()
					got, err := get(ctx, from.HTTPClient(to.id), "http://"+to.id+"/")
					if ctx.Err() != nil {
						return
					}
					if want := fmt.Sprintf("%s %s true", from.id, from.role); err != nil || got != want {
						t.Errorf("%s asks %s: %q, %v", from.id, to.id, got, err)
						return
					}
					count.Add(1)
				}
			}()
		}
	}
	return func() int64 { cancel(); wg.Wait(); return count.Load() }
}

func TestRenewalWhileConnectionsAreInUse(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	for _, n := range []*node{a, b} {
		n.HandleHTTP(http.HandlerFunc(whoami))
		echo(t, n.Raft())
	}
	long := mustDial(t, a.Port, "n2", ProtoRaft)
	if _, err := greeting(long); err != nil {
		t.Fatal(err)
	}
	stop := traffic(t, []*node{a, b})
	for i := range 30 {
		a.renew(time.Hour, time.Now())
		b.renew(time.Hour, time.Now())
		if err := talk(long, fmt.Sprint("renewal ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := stop(); n < 30 {
		t.Errorf("%d requests only", n)
	}
}

// TestRotationWithoutARefusedConnection goes through a whole rotation, one node
// after the other, twice, under traffic. Machines join meanwhile, with the token
// of before and the one of after.
func TestRotationWithoutARefusedConnection(t *testing.T) {
	w := newWorld(t)
	nodes := []*node{w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager), w.add("n3", stack.RoleWorker)}
	for _, n := range nodes {
		n.HandleHTTP(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == RootPath {
				rw.Write(n.store.Roots())
				return
			}
			whoami(rw, r)
		}))
	}
	first, err := w.ca.Digest()
	if err != nil {
		t.Fatal(err)
	}
	token, err := identity.ParseToken(identity.NewToken(first))
	if err != nil {
		t.Fatal(err)
	}
	tokens := []identity.Token{token}
	joins := func(when string) {
		t.Helper()
		for _, tok := range tokens {
			if err := tryJoin(t.Context(), nodes[0], tok); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	stop := traffic(t, nodes)
	for range 2 {
		next, err := w.authority().Rotate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.setAuthority(next)
		digest, _ := next.Digest()
		for i, n := range nodes {
			joins(fmt.Sprint("before node ", i))
			n.renew(time.Hour, time.Now()) // with the new bundle
			if n.store.Issuer() != digest {
				t.Fatalf("%s has a certificate of %s", n.id, n.store.Issuer())
			}
			if i == 0 {
				tokens = append(tokens, token.WithRoot(digest)) // what join-token prints now
			}
			joins(fmt.Sprint("after node ", i))
		}
		done := next.Finish()
		w.setAuthority(done)
		for _, n := range nodes {
			if err := n.store.SetRoots(done.Roots); err != nil {
				t.Fatal(err)
			}
		}
		if err := tryJoin(t.Context(), nodes[0], tokens[0]); err == nil || !strings.Contains(err.Error(), "join-token") {
			t.Errorf("a token of before a finished rotation: %v", err)
		}
		tokens = tokens[1:]
		joins("finished")
	}
	if n := stop(); n < 50 {
		t.Errorf("%d requests only", n)
	}
}

func tryJoin(ctx context.Context, n *node, token identity.Token) error {
	addr := n.Addr().String()
	c, err := JoinClient(ctx, addr, token, 10*time.Second)
	if err != nil {
		return err
	}
	got, err := getPost(ctx, c, "http://"+addr+JoinPath)
	if err == nil && got != "  false" {
		err = fmt.Errorf("the joiner is %q", got)
	}
	return err
}

func getPost(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	return do(c, req)
}

func TestJoinClientTellsNobodyElse(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	a, evil := w.add("n1", stack.RoleManager), other.add("n1", stack.RoleManager)
	var asked atomic.Int32
	// Shows the right root, which anybody may have, with a certificate of its own.
	evil.HandleHTTP(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == RootPath {
			rw.Write(a.store.Roots())
			return
		}
		asked.Add(1)
	}))
	digest, _ := w.ca.Digest()
	token, _ := identity.ParseToken(identity.NewToken(digest))
	if err := tryJoin(t.Context(), evil, token); err == nil || asked.Load() != 0 {
		t.Fatalf("%v; it was asked %d times", err, asked.Load())
	}
	evil.HandleHTTP(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { rw.Write(evil.store.Roots()) }))
	if err := tryJoin(t.Context(), evil, token); err == nil || !strings.Contains(err.Error(), "not the one in the join token") {
		t.Fatal(err)
	}
}
