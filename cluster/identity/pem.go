package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
)

// Bounds of what others send. Our own certificates take about 900 bytes of PEM.
const (
	maxCSR    = 8 << 10
	maxBundle = 64 << 10
	maxCerts  = 16
)

const (
	pemCert = "CERTIFICATE"
	pemCSR  = "CERTIFICATE REQUEST"
	pemKey  = "PRIVATE KEY"
)

// Digest of a certificate: SHA-256 of its DER form, in hex. It names a root in
// join tokens and in Issuer.
func Digest(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// RootDigests are the digests of the roots in a bundle.
func RootDigests(rootsPEM []byte) ([]string, error) {
	roots, err := parseRoots(rootsPEM)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(roots))
	for i, r := range roots {
		out[i] = Digest(r)
	}
	return out, nil
}

// parseCerts reads a list of certificates and nothing else.
func parseCerts(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxBundle {
		return nil, fmt.Errorf("%w: certificates of %d bytes: at most %d", runtime.ErrInvalid, len(data), maxBundle)
	}
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var b *pem.Block
		b, rest = nextBlock(rest)
		if b == nil || b.Type != pemCert {
			return nil, fmt.Errorf("%w: certificate %d is not a PEM block CERTIFICATE", runtime.ErrInvalid, len(out)+1)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", runtime.ErrInvalid, len(out)+1, err)
		}
		if out = append(out, c); len(out) > maxCerts {
			return nil, fmt.Errorf("%w: more than %d certificates", runtime.ErrInvalid, maxCerts)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no certificate", runtime.ErrInvalid)
	}
	return out, nil
}

// nextBlock is pem.Decode that refuses to skip anything before the block.
func nextBlock(data []byte) (*pem.Block, []byte) {
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, data
	}
	b, rest := pem.Decode(data)
	if b == nil || bytes.Count(data[:len(data)-len(rest)], []byte("-----BEGIN ")) != 1 {
		return nil, data
	}
	return b, rest
}

// parseRoots reads a bundle of roots: self-signed authorities.
func parseRoots(data []byte) ([]*x509.Certificate, error) {
	roots, err := parseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	for i, r := range roots {
		if !isRoot(r) {
			return nil, fmt.Errorf("roots: %w: certificate %d is not a self-signed authority", runtime.ErrInvalid, i+1)
		}
	}
	return roots, nil
}

func isRoot(c *x509.Certificate) bool {
	return c.IsCA && c.BasicConstraintsValid && onCurve(c.PublicKey) && bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

func onCurve(public any) bool {
	k, ok := public.(*ecdsa.PublicKey)
	return ok && k.Curve == elliptic.P256()
}

// parseCSR reads a certificate request and checks that its sender has the key.
func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	if len(data) > maxCSR {
		return nil, fmt.Errorf("%w: certificate request of %d bytes: at most %d", runtime.ErrInvalid, len(data), maxCSR)
	}
	b, rest := nextBlock(bytes.TrimSpace(data))
	if b == nil || b.Type != pemCSR || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: certificate request: want one PEM block CERTIFICATE REQUEST", runtime.ErrInvalid)
	}
	csr, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", runtime.ErrInvalid, err)
	}
	if !onCurve(csr.PublicKey) {
		return nil, fmt.Errorf("%w: certificate request: want an ECDSA key on P-256", runtime.ErrInvalid)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", runtime.ErrInvalid, err)
	}
	return csr, nil
}

// RequestKey is the digest of the key that a certificate is requested for.
func RequestKey(csrPEM []byte) (string, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	b, rest := nextBlock(bytes.TrimSpace(data))
	if b == nil || b.Type != pemKey || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: want one PEM block PRIVATE KEY", runtime.ErrInvalid)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: want an ECDSA key on P-256", runtime.ErrInvalid)
	}
	return key, nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func certPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: c.Raw})...)
	}
	return out
}
