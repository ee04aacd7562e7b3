package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// ErrNoCertificate: this node is not part of a cluster.
var ErrNoCertificate = errors.New("this node has no certificate: it is not part of a cluster")

// ErrWrongNode: who answers is in the cluster, but is not the node that was asked for.
var ErrWrongNode = errors.New("another node answers")

// ServerTLS is the configuration of a listener: TLS 1.3, the other end must show
// a certificate of this cluster and agree to one of alpn. Certificate and roots
// are those of the moment of each handshake.
func (s *Store) ServerTLS(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		ClientAuth: tls.RequireAnyClientCert, // verified below, by the roots of the moment
		// A resumed session would outlive the certificate it began with.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.certificate()
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if !slices.Contains(alpn, cs.NegotiatedProtocol) {
				return fmt.Errorf("%w: the other end speaks none of our protocols", runtime.ErrForbidden)
			}
			_, err := s.verifyPeer(cs, x509.ExtKeyUsageClientAuth)
			return err
		},
	}
}

// ClientTLS is the configuration for dialing node, or with "" any manager, to
// speak alpn. It shows this node's certificate.
func (s *Store) ClientTLS(node, alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		InsecureSkipVerify: true, // VerifyConnection does it, by node ID and by the roots of the moment
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return s.certificate()
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			p, err := s.verifyPeer(cs, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			return accept(p, node, cs, alpn)
		},
	}
}

// accept checks that a verified server is the one that was dialed.
func accept(p Peer, node string, cs tls.ConnectionState, alpn string) error {
	switch {
	case cs.NegotiatedProtocol != alpn:
		return fmt.Errorf("%w: node %s does not speak %s", runtime.ErrForbidden, p.Node, alpn)
	case node != "" && p.Node != node:
		return fmt.Errorf("%w: node %s", ErrWrongNode, p.Node)
	case node == "" && p.Role != stack.RoleManager:
		return fmt.Errorf("%w: node %s is not a manager", runtime.ErrForbidden, p.Node)
	}
	return nil
}

func (s *Store) certificate() (*tls.Certificate, error) {
	if m := s.cur.Load(); m.cert != nil {
		return m.cert, nil
	}
	return nil, ErrNoCertificate
}

func (s *Store) verifyPeer(cs tls.ConnectionState, usage x509.ExtKeyUsage) (Peer, error) {
	m := s.cur.Load()
	if m.leaf == nil {
		return Peer{}, ErrNoCertificate
	}
	p, err := m.verify(cs.PeerCertificates, usage, s.now())
	if err != nil {
		return Peer{}, err
	}
	if p.Cluster != m.peer.Cluster {
		return Peer{}, fmt.Errorf("%w: node %s is of cluster %s, this is cluster %s", runtime.ErrForbidden, p.Node, p.Cluster, m.peer.Cluster)
	}
	return p, nil
}

// JoinTLS is the configuration with which a machine that has no certificate
// talks to a manager of the cluster that token was made by. rootsPEM is what the
// manager showed over a connection nobody vouched for: only the root that the
// token names is believed, and the server must be a manager that this root
// vouches for. Send the token's secret over such connections only, and take the
// bundle to Install from there too.
func JoinTLS(token Token, rootsPEM []byte, now time.Time) (*tls.Config, error) {
	roots, err := parseRoots(rootsPEM)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(roots, func(r *x509.Certificate) bool { return Digest(r) == token.Root })
	if i < 0 {
		return nil, fmt.Errorf("%w: the certificate authority shown there is not the one in the join token: the address is of another cluster, someone is in between, or the authority was rotated since; get the token again with `dhow swarm join-token`", runtime.ErrForbidden)
	}
	t := newTrust(roots[i : i+1])
	const alpn = "http/1.1"
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		InsecureSkipVerify: true, // VerifyConnection does it, by the token's root
		VerifyConnection: func(cs tls.ConnectionState) error {
			p, err := t.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, now)
			if err != nil {
				return err
			}
			return accept(p, "", cs, alpn)
		},
	}, nil
}
