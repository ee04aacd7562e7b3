package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

var n1 = Peer{Node: "n1", Cluster: "c1", Role: stack.RoleManager}

func TestAStoreComesBackAsItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	s, err := OpenStore(dir, Clock(at(start)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Self(); ok || s.Issuer() != "" || s.Roots() != nil || !s.Expiry().IsZero() || !s.RenewAt().IsZero() {
		t.Fatal("a fresh store has something")
	}
	ca := mustCA(t, "c1")
	changed := s.Changed()
	enroll(t, s, ca, n1, time.Hour, start)
	select {
	case <-changed:
	default:
		t.Fatal("nobody is told of the certificate")
	}
	// Long after: an expired certificate does not keep the daemon from starting.
	again, err := OpenStore(dir, Clock(at(start.Add(1000*time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	self, ok := again.Self()
	digest, _ := ca.Digest()
	if !ok || self != n1 || again.Issuer() != digest || !again.Expiry().Equal(start.Add(time.Hour)) || !again.RenewAt().Equal(s.RenewAt()) || !bytes.Equal(again.Roots(), ca.Roots) {
		t.Fatalf("%+v %v %s %s", self, ok, again.Issuer(), again.Expiry())
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if st, _ := e.Info(); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), st.Mode())
		}
	}
	if len(entries) != 1 {
		t.Errorf("%d files, want node.pem alone", len(entries))
	}
	if err := again.Clear(); err != nil {
		t.Fatal(err)
	}
	if _, ok := again.Self(); ok {
		t.Fatal("cleared, and still somebody")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Fatalf("%d files after Clear", len(entries))
	}
}

func TestRenewalMakesANewKeyAndALateAnswerStillFits(t *testing.T) {
	ca := mustCA(t, "c1")
	s := mustStore(t, at(start))
	enroll(t, s, ca, n1, time.Hour, start)
	first := s.cur.Load().key
	a, err := s.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	// The answer is lost, the daemon restarts, and asks again.
	if s, err = OpenStore(s.dir, Clock(s.now)); err != nil {
		t.Fatal(err)
	}
	b, err := s.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	for _, csr := range [][]byte{b, a} { // the old answer comes after all
		cert, err := ca.Sign(csr, n1, 2*time.Hour, start)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Install(cert, nil); err != nil {
			t.Fatal(err)
		}
	}
	if s.cur.Load().key.Equal(first) {
		t.Fatal("the key is the old one")
	}
	if entries, _ := os.ReadDir(s.dir); len(entries) != 1 {
		t.Fatalf("%d files, want node.pem alone", len(entries))
	}
}

func TestInstallRefuses(t *testing.T) {
	ca, other := mustCA(t, "c1"), mustCA(t, "c1")
	s := mustStore(t, at(start))
	csr, err := s.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	sign := func(ca CA, csr []byte, p Peer, now time.Time) []byte {
		t.Helper()
		out, err := ca.Sign(csr, p, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := sign(ca, csr, n1, start)
	for _, c := range []struct {
		name        string
		cert, roots []byte
		want        error
		says        string
	}{
		{"no roots", good, nil, runtime.ErrForbidden, "unknown authority"},
		{"roots of others", good, other.Roots, runtime.ErrForbidden, ""},
		{"a node certificate as root", good, good, runtime.ErrInvalid, "self-signed"},
		{"key of others", sign(ca, csrOf(t, p256(t), x509.CertificateRequest{}), n1, start), ca.Roots, runtime.ErrInvalid, "does not have"},
		{"expired", sign(ca, csr, n1, start.Add(-2*time.Hour)), ca.Roots, runtime.ErrForbidden, "clock says"},
		{"from the future", sign(ca, csr, n1, start.Add(2*time.Hour)), ca.Roots, runtime.ErrForbidden, "set the clocks"},
		{"the root itself", ca.Cert, ca.Roots, runtime.ErrInvalid, ""},
		{"rubbish after", append(bytes.Clone(good), "x"...), ca.Roots, runtime.ErrInvalid, ""},
		{"too much", bytes.Repeat(good, maxBundle/len(good)+1), ca.Roots, runtime.ErrInvalid, ""},
		{"too many", bytes.Repeat(good, maxCerts+1), ca.Roots, runtime.ErrInvalid, ""},
	} {
		err := s.Install(c.cert, c.roots)
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, ok := s.Self(); ok {
			t.Fatalf("%s: refused and used", c.name)
		}
	}
	// Within the skew that clocks may have.
	if err := s.Install(sign(ca, csr, n1, start.Add(50*time.Minute)), ca.Roots); err != nil {
		t.Errorf("50 minutes ahead: %v", err)
	}
	csr, _ = s.NewCSR()
	if err := s.Install(sign(ca, csr, Peer{"n2", "c1", stack.RoleManager}, start), nil); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("becomes another node: %v", err)
	}
	if err := s.SetRoots(other.Roots); err == nil {
		t.Error("takes roots that its own certificate does not come from")
	}
	if self, _ := s.Self(); self != n1 {
		t.Errorf("is %+v now", self)
	}
}

func TestADamagedStoreSaysSo(t *testing.T) {
	ca := mustCA(t, "c1")
	s := mustStore(t, at(start))
	enroll(t, s, ca, n1, time.Hour, start)
	whole, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{{}, whole[:len(whole)/2], whole[40:], bytes.Repeat(whole, 2)} {
		if err := os.WriteFile(s.path(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(s.dir); err == nil || !strings.Contains(err.Error(), s.path()) {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
	// A torn pending key is only a request that has to be made again.
	if err := os.WriteFile(s.path(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.pendingPath(), []byte("-----BEGIN PRI"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenStore(s.dir, Clock(s.now)); err != nil {
		t.Fatal(err)
	}
	enroll(t, s, ca, n1, time.Hour, start)
}

// TestKillAtAnyLine kills a process that renews without pause, and opens what it left.
func TestKillAtAnyLine(t *testing.T) {
	if dir := os.Getenv("IDENTITY_TEST_DIR"); dir != "" {
		renewForever(t, dir)
		return
	}
	dir := t.TempDir()
	ready := false
	for round := range 40 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillAtAnyLine$")
		cmd.Env = append(os.Environ(), "IDENTITY_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(out, make([]byte, 1)) // it has begun
		time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		s, err := OpenStore(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		_, ok := s.Self()
		if ready && !ok {
			t.Fatalf("round %d: the certificate is gone", round)
		}
		ready = ready || ok
	}
	if !ready {
		t.Fatal("no round got as far as a certificate")
	}
}

func renewForever(t *testing.T, dir string) {
	ca := mustCA(t, "c1")
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(".")
	for {
		// Each process has an authority of its own: its roots and certificates
		// must be seen together or not at all.
		csr, err := s.NewCSR()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Sign(csr, n1, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Install(cert, ca.Roots); err != nil {
			t.Fatal(err)
		}
	}
}

// handshake connects two configurations over loopback.
func handshake(t *testing.T, server, client *tls.Config) (srv, cli error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		c := tls.Server(raw, server)
		if err = c.Handshake(); err == nil {
			_, err = c.Write([]byte("x"))
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, client)
	if cli = c.Handshake(); cli == nil {
		_, cli = c.Read(make([]byte, 1)) // TLS 1.3: the server's refusal comes after the client's handshake
	}
	raw.Close()
	return <-done, cli
}

func TestTLSBetweenStores(t *testing.T) {
	ca := mustCA(t, "c1")
	server, client := mustStore(t, at(start)), mustStore(t, at(start))
	enroll(t, server, ca, n1, time.Hour, start)
	enroll(t, client, ca, Peer{"n2", "c1", stack.RoleWorker}, time.Hour, start)
	srv := server.ServerTLS("a", "b")
	none := client.ClientTLS("n1", "a")
	none.GetClientCertificate = nil
	old := client.ClientTLS("n1", "a")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	noALPN := client.ClientTLS("n1", "a")
	noALPN.NextProtos = nil
	for _, c := range []struct {
		name   string
		client *tls.Config
		ok     bool
	}{
		{"by ID", client.ClientTLS("n1", "a"), true},
		{"any manager", client.ClientTLS("", "b"), true},
		{"another node answers", client.ClientTLS("n3", "a"), false},
		{"no common protocol", client.ClientTLS("n1", "c"), false},
		{"no protocol", noALPN, false},
		{"no certificate", none, false},
		{"TLS 1.2", old, false},
	} {
		s, cl := handshake(t, srv, c.client)
		if ok := s == nil && cl == nil; ok != c.ok {
			t.Errorf("%s: server %v, client %v", c.name, s, cl)
		}
	}
	// A worker is not "any manager".
	_, err := handshake(t, client.ServerTLS("a"), server.ClientTLS("", "a"))
	if !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("a worker passes for a manager: %v", err)
	}
	if _, err := handshake(t, srv, client.ClientTLS("n3", "a")); !errors.Is(err, ErrWrongNode) {
		t.Errorf("wrong node: %v", err)
	}
}

func TestTLSRefusesOthersAndTheExpired(t *testing.T) {
	ca := mustCA(t, "c1")
	now := start
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	a, b := mustStore(t, clock), mustStore(t, clock)
	enroll(t, a, ca, n1, 2*time.Hour, start)
	enroll(t, b, ca, Peer{"n2", "c1", stack.RoleWorker}, time.Hour, start)

	foreign := mustStore(t, at(start))
	enroll(t, foreign, mustCA(t, "c1"), Peer{"n2", "c1", stack.RoleManager}, time.Hour, start)
	if s, c := handshake(t, a.ServerTLS("x"), foreign.ClientTLS("n1", "x")); s == nil && c == nil {
		t.Error("two authorities of the same name trust each other")
	}

	mu.Lock()
	now = start.Add(90 * time.Minute)
	mu.Unlock()
	if s, _ := handshake(t, a.ServerTLS("x"), b.ClientTLS("n1", "x")); s == nil || !strings.Contains(s.Error(), "ended at") {
		t.Errorf("expired client: %v", s)
	}
	if _, c := handshake(t, b.ServerTLS("x"), a.ClientTLS("n2", "x")); c == nil || !strings.Contains(c.Error(), "node n2 ended at") {
		t.Errorf("expired server: %v", c)
	}
}

func TestJoinTLSBelievesTheTokenAlone(t *testing.T) {
	ca := mustCA(t, "c1")
	digest, err := ca.Digest()
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(NewToken(digest))
	if err != nil {
		t.Fatal(err)
	}
	manager, worker := mustStore(t, at(start)), mustStore(t, at(start))
	enroll(t, manager, ca, n1, time.Hour, start)
	enroll(t, worker, ca, Peer{"n2", "c1", stack.RoleWorker}, time.Hour, start)
	anonymous := func(s *Store) *tls.Config {
		cfg := s.ServerTLS("http/1.1")
		cfg.ClientAuth, cfg.VerifyConnection = tls.RequestClientCert, nil
		return cfg
	}
	join, err := JoinTLS(token, ca.Roots, start)
	if err != nil {
		t.Fatal(err)
	}
	if s, c := handshake(t, anonymous(manager), join); s != nil || c != nil {
		t.Errorf("manager: %v, %v", s, c)
	}
	if _, c := handshake(t, anonymous(worker), join); !errors.Is(c, runtime.ErrForbidden) {
		t.Errorf("a worker takes the secret: %v", c)
	}

	// Someone in between adds a root of theirs to the bundle that the token names.
	evil := mustCA(t, "c1")
	between := mustStore(t, at(start))
	enroll(t, between, evil, n1, time.Hour, start)
	join, err = JoinTLS(token, append(bytes.Clone(evil.Roots), ca.Roots...), start)
	if err != nil {
		t.Fatal(err)
	}
	if _, c := handshake(t, anonymous(between), join); !errors.Is(c, runtime.ErrForbidden) {
		t.Errorf("someone in between: %v", c)
	}
	if _, err := JoinTLS(token, evil.Roots, start); !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("another authority: %v", err)
	}

	// A token of before a rotation, while it goes on.
	next, err := ca.Rotate(start)
	if err != nil {
		t.Fatal(err)
	}
	enroll(t, manager, next, n1, time.Hour, start)
	for _, root := range []CA{ca, next} {
		d, _ := root.Digest()
		join, err := JoinTLS(token.WithRoot(d), next.Roots, start)
		if err != nil {
			t.Fatal(err)
		}
		if s, c := handshake(t, anonymous(manager), join); s != nil || c != nil {
			t.Errorf("rotation: %v, %v", s, c)
		}
	}
}
