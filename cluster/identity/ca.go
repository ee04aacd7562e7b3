package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// Validity of certificates.
const (
	DefaultValidity = 90 * 24 * time.Hour
	MinValidity     = time.Minute
	// Backdate: clocks of nodes may differ by this much before a new certificate
	// is refused as not valid yet.
	Backdate     = time.Hour
	rootValidity = 20 * 365 * 24 * time.Hour
	// maxRoots bounds rotations that are not finished: each adds a cross-signed
	// certificate to every handshake.
	maxRoots = 4
)

// CA is the cluster's certificate authority. All fields are PEM; Key and so the
// whole is secret. The zero CA signs nothing.
type CA struct {
	Roots []byte `json:"roots"`           // all roots that nodes trust, the signing one last
	Cert  []byte `json:"cert"`            // the signing root
	Key   []byte `json:"key"`             // of Cert
	Cross []byte `json:"cross,omitempty"` // during a rotation: Cert's key signed by the root before, and so on; newest first
}

// NewCA makes an authority with a new key.
func NewCA(cluster string, now time.Time) (CA, error) {
	if !name.MatchString(cluster) {
		return CA{}, fmt.Errorf("%w: cluster ID %.80q", runtime.ErrInvalid, cluster)
	}
	key, root, err := newRoot(cluster, now)
	if err != nil {
		return CA{}, fmt.Errorf("make certificate authority: %w", err)
	}
	k, err := keyPEM(key)
	if err != nil {
		return CA{}, err
	}
	pem := certPEM(root)
	return CA{Roots: pem, Cert: pem, Key: k}, nil
}

func newRoot(cluster string, now time.Time) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial := newSerial()
	t := &x509.Certificate{
		SerialNumber: serial,
		// The number keeps the names of a cluster's roots apart.
		Subject:               pkix.Name{CommonName: "dhow CA " + hex.EncodeToString(serial.Bytes()[:4]), Organization: []string{cluster}},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(rootValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	root, err := makeCert(t, t, &key.PublicKey, key)
	return key, root, err
}

// newSerial is 16 random bytes, positive and without leading zero.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func makeCert(t, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// signer is a CA read and checked.
type signer struct {
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots []*x509.Certificate
	cross []*x509.Certificate
}

func (ca CA) open() (signer, error) {
	var s signer
	certs, err := parseRoots(ca.Cert)
	if err != nil {
		return s, fmt.Errorf("certificate authority: %w", err)
	}
	s.root = certs[len(certs)-1]
	if s.key, err = parseKey(ca.Key); err != nil {
		return s, fmt.Errorf("certificate authority: key: %w", err)
	}
	if !s.key.PublicKey.Equal(s.root.PublicKey) {
		return s, fmt.Errorf("certificate authority: %w: key and certificate do not belong together", runtime.ErrInvalid)
	}
	if s.roots, err = parseRoots(ca.Roots); err != nil {
		return s, fmt.Errorf("certificate authority: %w", err)
	}
	if len(ca.Cross) > 0 {
		if s.cross, err = parseCerts(ca.Cross); err != nil {
			return s, fmt.Errorf("certificate authority: %w", err)
		}
	}
	return s, nil
}

// Cluster is the ID of the cluster.
func (ca CA) Cluster() (string, error) {
	s, err := ca.open()
	if err != nil {
		return "", err
	}
	return s.root.Subject.Organization[0], nil
}

// Digest of the signing root: what new certificates have as Issuer, and what
// new join tokens carry.
func (ca CA) Digest() (string, error) {
	s, err := ca.open()
	if err != nil {
		return "", err
	}
	return Digest(s.root), nil
}

// Rotating says whether roots of before are still trusted.
func (ca CA) Rotating() bool { return len(ca.Cross) > 0 }

// Sign makes a certificate for the key in csr that speaks for p, followed by
// the cross-signed certificates of a rotation. Nothing but the key is taken from
// csr. validity counts from now; it ends with the root's at the latest.
func (ca CA) Sign(csr []byte, p Peer, validity time.Duration, now time.Time) ([]byte, error) {
	s, err := ca.open()
	if err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	if p.Cluster != s.root.Subject.Organization[0] {
		return nil, fmt.Errorf("sign certificate: %w: cluster %s, the authority is of %s", runtime.ErrInvalid, p.Cluster, s.root.Subject.Organization[0])
	}
	if validity < MinValidity {
		return nil, fmt.Errorf("sign certificate: %w: validity %s: at least %s", runtime.ErrInvalid, validity, MinValidity)
	}
	if !now.After(s.root.NotBefore) {
		return nil, fmt.Errorf("sign certificate: %w: this machine's clock says %s, before the authority was made: set the clock", runtime.ErrConflict, now.UTC().Format(time.RFC3339))
	}
	req, err := parseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := makeCert(leafTemplate(p, s.root, validity, now), s.root, req.PublicKey.(*ecdsa.PublicKey), s.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return certPEM(append([]*x509.Certificate{leaf}, s.cross...)...), nil
}

func leafTemplate(p Peer, root *x509.Certificate, validity time.Duration, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: p.Node, Organization: []string{p.Cluster}, OrganizationalUnit: []string{string(p.Role)}},
		DNSNames:              []string{p.Node},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if t.NotAfter.After(root.NotAfter) {
		t.NotAfter = root.NotAfter
	}
	if t.NotBefore.Before(root.NotBefore) { // signed by a clock that is behind the one that made the root
		t.NotBefore = root.NotBefore
	}
	return t
}

// Rotate makes a new signing root beside those that are trusted already. Nodes
// go on trusting each other all the time; give them the new bundle and new
// certificates, then Finish.
func (ca CA) Rotate(now time.Time) (CA, error) {
	s, err := ca.open()
	if err != nil {
		return CA{}, err
	}
	if len(s.roots) >= maxRoots {
		return CA{}, fmt.Errorf("rotate certificate authority: %w: %d rotations are unfinished; wait until every node has its new certificate, or remove nodes that are gone", runtime.ErrConflict, len(s.roots)-1)
	}
	key, root, err := newRoot(s.root.Subject.Organization[0], now)
	if err != nil {
		return CA{}, fmt.Errorf("rotate certificate authority: %w", err)
	}
	cross, err := makeCert(crossTemplate(root, s.root), s.root, &key.PublicKey, s.key)
	if err != nil {
		return CA{}, fmt.Errorf("rotate certificate authority: %w", err)
	}
	k, err := keyPEM(key)
	if err != nil {
		return CA{}, err
	}
	return CA{
		Roots: certPEM(append(s.roots, root)...), Cert: certPEM(root), Key: k,
		Cross: certPEM(append([]*x509.Certificate{cross}, s.cross...)...),
	}, nil
}

// crossTemplate is root as the older root signs it.
func crossTemplate(root, older *x509.Certificate) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               root.Subject,
		SubjectKeyId:          root.SubjectKeyId,
		NotBefore:             root.NotBefore,
		NotAfter:              root.NotAfter,
		KeyUsage:              root.KeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if t.NotAfter.After(older.NotAfter) {
		t.NotAfter = older.NotAfter
	}
	return t
}

// Finish trusts the signing root alone. Certificates of older roots are refused
// by nodes that have the new bundle.
func (ca CA) Finish() CA {
	return CA{Roots: ca.Cert, Cert: ca.Cert, Key: ca.Key}
}
