package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// trust is a set of roots, ready to verify with.
type trust struct {
	roots []*x509.Certificate
	pool  *x509.CertPool
}

func newTrust(roots []*x509.Certificate) trust {
	t := trust{roots: roots, pool: x509.NewCertPool()}
	for _, r := range roots {
		t.pool.AddCert(r)
	}
	return t
}

// verify checks a chain (leaf first) as TLS peers show it, and says whom it speaks for.
func (t trust) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Peer, error) {
	if len(chain) == 0 || len(chain) > maxCerts || t.pool == nil { // a nil pool would mean the system's roots
		return Peer{}, fmt.Errorf("%w: %d certificates", runtime.ErrForbidden, len(chain))
	}
	opts := x509.VerifyOptions{
		Roots: t.pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return Peer{}, fmt.Errorf("%w: %w", runtime.ErrForbidden, explain(chain[0], now, err))
	}
	p, err := peerIn(chain[0])
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", runtime.ErrForbidden, err)
	}
	return p, nil
}

// explain turns the library's words on time into what a person can act on.
func explain(leaf *x509.Certificate, now time.Time, err error) error {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		return err
	}
	const form = time.RFC3339
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("the certificate of node %s is valid from %s, and this machine's clock says %s: set the clocks", leaf.Subject.CommonName, leaf.NotBefore.UTC().Format(form), now.UTC().Format(form))
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("the certificate of node %s ended at %s, and this machine's clock says %s: join the node again, or set the clocks", leaf.Subject.CommonName, leaf.NotAfter.UTC().Format(form), now.UTC().Format(form))
	}
	return err
}

// issuerOf is the digest of the root that signed leaf, "" when that root is not in t.
func (t trust) issuerOf(leaf *x509.Certificate) string {
	for _, r := range t.roots {
		if leaf.CheckSignatureFrom(r) == nil {
			return Digest(r)
		}
	}
	return ""
}
