package identity

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// FuzzSign: whatever is in a request, the certificate speaks for whom the signer says.
func FuzzSign(f *testing.F) {
	ca := mustCA(f, "c1")
	for _, tpl := range []x509.CertificateRequest{{}, {DNSNames: []string{"a", "b"}, Subject: pkix.Name{CommonName: "x"}}} {
		b, _ := pem.Decode(csrOf(f, p256(f), tpl))
		f.Add(b.Bytes)
	}
	want := Peer{"n1", "c1", stack.RoleWorker}
	f.Fuzz(func(t *testing.T, der []byte) {
		out, err := ca.Sign(pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}), want, time.Hour, start)
		if err != nil {
			return
		}
		certs, err := parseCerts(out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := peerIn(certs[0]); err != nil || got != want {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// FuzzVerify: a chain is accepted only when its first certificate says, byte by
// byte, what the authority signed.
func FuzzVerify(f *testing.F) {
	ca := mustCA(f, "c1")
	next, err := ca.Rotate(start)
	if err != nil {
		f.Fatal(err)
	}
	out, err := next.Sign(csrOf(f, p256(f), x509.CertificateRequest{}), Peer{"n1", "c1", stack.RoleWorker}, time.Hour, start)
	if err != nil {
		f.Fatal(err)
	}
	chain, err := parseCerts(out)
	if err != nil {
		f.Fatal(err)
	}
	roots, err := parseRoots(ca.Roots)
	if err != nil {
		f.Fatal(err)
	}
	old := newTrust(roots)
	f.Add(chain[0].Raw, chain[1].Raw)
	f.Add(chain[1].Raw, chain[0].Raw)
	f.Add(roots[0].Raw, []byte{})
	f.Fuzz(func(t *testing.T, leaf, cross []byte) {
		var shown []*x509.Certificate
		for _, der := range [][]byte{leaf, cross} {
			if c, err := x509.ParseCertificate(der); err == nil {
				shown = append(shown, c)
			}
		}
		if _, err := old.verify(shown, x509.ExtKeyUsageClientAuth, start); err == nil && !bytes.Equal(shown[0].RawTBSCertificate, chain[0].RawTBSCertificate) {
			t.Fatalf("accepted: %x", leaf)
		}
	})
}

// FuzzInstall: whatever a manager answers, the store has what it had or
// something whole, and the file says the same.
func FuzzInstall(f *testing.F) {
	ca := mustCA(f, "c1")
	next, err := ca.Rotate(start)
	if err != nil {
		f.Fatal(err)
	}
	seed := mustStore(f, at(start))
	csr, err := seed.NewCSR()
	if err != nil {
		f.Fatal(err)
	}
	good, err := next.Sign(csr, Peer{"n1", "c1", stack.RoleWorker}, time.Hour, start)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, next.Roots)
	f.Add(ca.Cert, ca.Roots)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{})
	key := seed.pending
	f.Fuzz(func(t *testing.T, cert, roots []byte) {
		s := mustStore(t, at(start))
		s.pending = key
		if err := s.Install(cert, roots); err != nil {
			if _, ok := s.Self(); ok {
				t.Fatal("refused and used")
			}
			return
		}
		again, err := OpenStore(s.dir, Clock(s.now))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := s.cur.Load().encode()
		b, _ := again.cur.Load().encode()
		if !bytes.Equal(a, b) {
			t.Fatal("the file says something else")
		}
	})
}

// FuzzDecodeMaterial: a damaged file is an error, never a panic, and what is
// read is what would be written.
func FuzzDecodeMaterial(f *testing.F) {
	ca := mustCA(f, "c1")
	s := mustStore(f, at(start))
	enroll(f, s, ca, Peer{"n1", "c1", stack.RoleWorker}, time.Hour, start)
	whole, err := s.cur.Load().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(ca.Roots)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMaterial(data)
		if err != nil {
			return
		}
		out, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeMaterial(out); err != nil {
			t.Fatal(err)
		}
	})
}
