package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/dhow-project/dhow/runtime"
)

// material is what a node has at one moment. It is not changed once made. Its
// zero value is a node without certificate and roots.
type material struct {
	trust
	key    *ecdsa.PrivateKey   // nil without certificate
	chain  []*x509.Certificate // leaf first, no roots
	leaf   *x509.Certificate   // chain[0]; nil without certificate
	cert   *tls.Certificate
	peer   Peer
	issuer string
}

// newMaterial checks that its arguments belong together, whatever the time is.
// key and chain may both be absent.
func newMaterial(key *ecdsa.PrivateKey, chain, roots []*x509.Certificate) (*material, error) {
	m := &material{trust: newTrust(roots), key: key, chain: chain}
	if key == nil && len(chain) == 0 {
		return m, nil
	}
	if key == nil || len(chain) == 0 || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: key and certificate do not belong together", runtime.ErrInvalid)
	}
	m.leaf = chain[0]
	var err error
	if m.peer, err = m.verify(chain, x509.ExtKeyUsageServerAuth, m.leaf.NotBefore); err != nil {
		return nil, err
	}
	m.issuer = m.issuerOf(m.leaf)
	m.cert = &tls.Certificate{PrivateKey: key, Leaf: m.leaf}
	for _, c := range chain {
		m.cert.Certificate = append(m.cert.Certificate, c.Raw)
	}
	return m, nil
}

// encode is the content of node.pem: roots are told from the chain by being self-signed.
func (m *material) encode() ([]byte, error) {
	var out []byte
	if m.key != nil {
		k, err := keyPEM(m.key)
		if err != nil {
			return nil, err
		}
		out = append(out, k...)
	}
	out = append(out, certPEM(m.chain...)...)
	return append(out, certPEM(m.roots...)...), nil
}

func readMaterial(path string) (*material, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &material{}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeMaterial(data)
}

func decodeMaterial(data []byte) (*material, error) {
	var key *ecdsa.PrivateKey
	if b, rest := nextBlock(data); b != nil && b.Type == pemKey {
		var err error
		if key, err = parseKey(data[:len(data)-len(rest)]); err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		data = bytes.TrimSpace(rest)
	}
	certs, err := parseCerts(data)
	if err != nil {
		return nil, err
	}
	var chain, roots []*x509.Certificate
	for _, c := range certs {
		if isRoot(c) {
			roots = append(roots, c)
		} else {
			chain = append(chain, c)
		}
	}
	return newMaterial(key, chain, roots)
}
