package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	made  = start.Add(-24 * time.Hour) // when authorities were
)

func mustCA(t testing.TB, cluster string) CA {
	t.Helper()
	ca, err := NewCA(cluster, made)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mustStore(t testing.TB, now func() time.Time) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir(), Clock(now))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// enroll gives s a certificate of ca.
func enroll(t testing.TB, s *Store, ca CA, p Peer, validity time.Duration, now time.Time) {
	t.Helper()
	csr, err := s.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, p, validity, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Install(cert, ca.Roots); err != nil {
		t.Fatal(err)
	}
}

func csrOf(t testing.TB, key any, tpl x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der})
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSignTakesNothingButTheKeyFromTheRequest(t *testing.T) {
	ca := mustCA(t, "c1")
	key := p256(t)
	// What a thief would ask for: to be a manager, another node, an authority.
	isCA, err := asn1CA()
	if err != nil {
		t.Fatal(err)
	}
	csr := csrOf(t, key, x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "other", Organization: []string{"c2"}, OrganizationalUnit: []string{"manager"}},
		DNSNames:        []string{"other", "localhost"},
		IPAddresses:     []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtraExtensions: []pkix.Extension{isCA},
	})
	out, err := ca.Sign(csr, Peer{Node: "n1", Cluster: "c1", Role: stack.RoleWorker}, time.Hour, start)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseCerts(out)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	c := certs[0]
	got, err := peerIn(c)
	if err != nil || got != (Peer{Node: "n1", Cluster: "c1", Role: stack.RoleWorker}) {
		t.Fatalf("speaks for %+v, %v", got, err)
	}
	if c.IsCA || len(c.IPAddresses) != 0 || len(c.DNSNames) != 1 || !key.PublicKey.Equal(c.PublicKey) {
		t.Fatalf("CA %v, IPs %v, names %v", c.IsCA, c.IPAddresses, c.DNSNames)
	}
	if !c.NotBefore.Equal(start.Add(-Backdate)) || !c.NotAfter.Equal(start.Add(time.Hour)) {
		t.Fatalf("valid %s to %s", c.NotBefore, c.NotAfter)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 2 {
		t.Fatalf("usages %v %v", c.KeyUsage, c.ExtKeyUsage)
	}
}

// asn1CA is the extension BasicConstraints CA:true as a real authority carries it.
func asn1CA() (pkix.Extension, error) {
	ca, err := NewCA("x", start)
	if err != nil {
		return pkix.Extension{}, err
	}
	certs, err := parseRoots(ca.Cert)
	if err != nil {
		return pkix.Extension{}, err
	}
	for _, e := range certs[0].Extensions {
		if e.Id.String() == "2.5.29.19" {
			return e, nil
		}
	}
	return pkix.Extension{}, errors.New("no basic constraints")
}

func TestSignRefuses(t *testing.T) {
	ca := mustCA(t, "c1")
	good := csrOf(t, p256(t), x509.CertificateRequest{})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	worker := Peer{Node: "n1", Cluster: "c1", Role: stack.RoleWorker}
	for _, c := range []struct {
		name     string
		csr      []byte
		peer     Peer
		validity time.Duration
	}{
		{"empty", nil, worker, time.Hour},
		{"too long", append(bytes.Repeat([]byte{'\n'}, maxCSR), good...), worker, time.Hour},
		{"two requests", append(bytes.Clone(good), good...), worker, time.Hour},
		{"words before", append([]byte("hello\n"), good...), worker, time.Hour},
		{"another block", ca.Cert, worker, time.Hour},
		{"curve", csrOf(t, p384, x509.CertificateRequest{}), worker, time.Hour},
		{"rsa", csrOf(t, rsaKey, x509.CertificateRequest{}), worker, time.Hour},
		{"not the key's owner", pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: forged}), worker, time.Hour},
		{"node ID", good, Peer{Node: "a.b/../c", Cluster: "c1", Role: stack.RoleWorker}, time.Hour},
		{"no node ID", good, Peer{Cluster: "c1", Role: stack.RoleWorker}, time.Hour},
		{"role", good, Peer{Node: "n1", Cluster: "c1", Role: "root"}, time.Hour},
		{"cluster", good, Peer{Node: "n1", Cluster: "c2", Role: stack.RoleWorker}, time.Hour},
		{"validity", good, worker, time.Second},
	} {
		if _, err := ca.Sign(c.csr, c.peer, c.validity, start); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := (CA{}).Sign(good, worker, time.Hour, start); err == nil {
		t.Error("the zero authority signs")
	}
	other := mustCA(t, "c1")
	if _, err := (CA{Roots: ca.Roots, Cert: ca.Cert, Key: other.Key}).Sign(good, worker, time.Hour, start); err == nil {
		t.Error("an authority with another's key signs")
	}
}

func TestCertificatesEndWithTheirRoot(t *testing.T) {
	ca := mustCA(t, "c1")
	late := made.Add(rootValidity - time.Hour)
	out, err := ca.Sign(csrOf(t, p256(t), x509.CertificateRequest{}), Peer{"n1", "c1", stack.RoleWorker}, DefaultValidity, late)
	if err != nil {
		t.Fatal(err)
	}
	certs, _ := parseCerts(out)
	if want := made.Add(rootValidity); !certs[0].NotAfter.Equal(want) {
		t.Fatalf("ends %s, want %s", certs[0].NotAfter, want)
	}
}

// TestAClockBehindTheAuthority: the manager that signs is behind the one that made the root.
func TestAClockBehindTheAuthority(t *testing.T) {
	ca := mustCA(t, "c1")
	s := mustStore(t, at(made))
	enroll(t, s, ca, n1, 3*time.Hour, made.Add(-50*time.Minute))
	if _, err := OpenStore(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Sign(csrOf(t, p256(t), x509.CertificateRequest{}), n1, time.Hour, made.Add(-2*time.Hour)); !errors.Is(err, runtime.ErrConflict) {
		t.Fatalf("before the authority was made: %v", err)
	}
}

// TestALeafSignsNothing: a node cannot make certificates with its own.
func TestALeafSignsNothing(t *testing.T) {
	ca := mustCA(t, "c1")
	s := mustStore(t, at(start))
	enroll(t, s, ca, Peer{"n1", "c1", stack.RoleManager}, time.Hour, start)
	m := s.cur.Load()
	tpl := leafTemplate(Peer{"n2", "c1", stack.RoleManager}, m.leaf, time.Hour, start)
	tpl.NotAfter = start.Add(time.Hour)
	fake, err := makeCert(tpl, m.leaf, &p256(t).PublicKey, m.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.verify([]*x509.Certificate{fake, m.leaf}, x509.ExtKeyUsageClientAuth, start); !errors.Is(err, runtime.ErrForbidden) {
		t.Fatalf("a certificate that a node signed: %v", err)
	}
}

func TestRotationKeepsEveryPairOfGenerationsTogether(t *testing.T) {
	ca1 := mustCA(t, "c1")
	ca2, err := ca1.Rotate(start)
	if err != nil {
		t.Fatal(err)
	}
	ca3, err := ca2.Rotate(start) // before the first one is finished
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		name  string
		chain []*x509.Certificate
		trust trust
	}
	mk := func(name string, signs CA, roots []byte) node {
		out, err := signs.Sign(csrOf(t, p256(t), x509.CertificateRequest{}), Peer{"n1", "c1", stack.RoleWorker}, time.Hour, start)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := parseCerts(out)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseRoots(roots)
		if err != nil {
			t.Fatal(err)
		}
		return node{name, chain, newTrust(r)}
	}
	check := func(nodes []node) {
		t.Helper()
		for _, a := range nodes {
			for _, b := range nodes {
				if _, err := a.trust.verify(b.chain, x509.ExtKeyUsageClientAuth, start); err != nil {
					t.Errorf("%s refuses %s: %v", a.name, b.name, err)
				}
			}
		}
	}
	check([]node{
		mk("old certificate, old roots", ca1, ca1.Roots), mk("old certificate, new roots", ca1, ca2.Roots),
		mk("new certificate, old roots", ca2, ca1.Roots), mk("new certificate, new roots", ca2, ca2.Roots),
		mk("third certificate, new roots", ca3, ca3.Roots), mk("third certificate, oldest roots", ca3, ca1.Roots),
	})
	done := ca3.Finish()
	last := []node{mk("late", ca3, ca3.Roots), mk("finished", done, done.Roots)}
	check(last)
	old := mk("old", ca1, ca1.Roots)
	if _, err := last[1].trust.verify(old.chain, x509.ExtKeyUsageClientAuth, start); err == nil {
		t.Error("a finished rotation still trusts the old root")
	}
	if !ca2.Rotating() || done.Rotating() {
		t.Error("Rotating")
	}
	d3, _ := ca3.Digest()
	if got := last[1].trust.issuerOf(last[0].chain[0]); got != d3 {
		t.Errorf("issuer %s, want %s", got, d3)
	}
}

func TestRotationsThatNeverFinishAreRefused(t *testing.T) {
	ca := mustCA(t, "c1")
	var err error
	for range maxRoots - 1 {
		if ca, err = ca.Rotate(start); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ca.Rotate(start); !errors.Is(err, runtime.ErrConflict) {
		t.Fatalf("one too many: %v", err)
	}
	if _, err := ca.Finish().Rotate(start); err != nil {
		t.Fatal(err)
	}
}

func TestRenewAtIsBetweenHalfAndTwoThirds(t *testing.T) {
	for _, v := range []time.Duration{MinValidity, time.Hour, DefaultValidity, 10 * 365 * 24 * time.Hour} {
		c := &x509.Certificate{NotBefore: start.Add(-Backdate), NotAfter: start.Add(v)}
		seen := map[time.Time]bool{}
		for seed := range uint64(5000) {
			at := RenewAt(c, seed*0x9e3779b97f4a7c15)
			if at.Before(start.Add(v/2)) || at.After(start.Add(v*2/3)) {
				t.Fatalf("validity %s: seed %d: %s", v, seed, at.Sub(start))
			}
			seen[at] = true
		}
		if len(seen) < 4000 {
			t.Errorf("validity %s: %d different times of 5000", v, len(seen))
		}
	}
	var times [4]int // by quarter of the range: serials spread them
	for range 400 {
		c := &x509.Certificate{NotBefore: start.Add(-Backdate), NotAfter: start.Add(DefaultValidity), SerialNumber: newSerial()}
		part := RenewAt(c, seedOf(c)).Sub(start.Add(DefaultValidity / 2))
		times[min(int(4*part/(DefaultValidity/6)), 3)]++
	}
	for i, n := range times {
		if n < 50 {
			t.Errorf("quarter %d has %d of 400", i, n)
		}
	}
}

func TestSerialsAreSixteenBytes(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		n := newSerial()
		if n.Cmp(big.NewInt(0)) <= 0 || len(n.Bytes()) != 16 || seen[n.String()] {
			t.Fatalf("serial %s", n)
		}
		seen[n.String()] = true
	}
}
