package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Peer is who a certificate speaks for.
type Peer struct {
	Node    string // ID; the certificate's CN and SAN
	Cluster string // ID; O
	Role    stack.Role
}

// name is what IDs of nodes and clusters look like: they become DNS names in certificates and hosts in URLs.
var name = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)

// Validate says what keeps p from being put into a certificate.
func (p Peer) Validate() error {
	switch {
	case !name.MatchString(p.Node):
		return fmt.Errorf("%w: node ID %.80q: want 1 to 63 letters, digits, - or _", runtime.ErrInvalid, p.Node)
	case !name.MatchString(p.Cluster):
		return fmt.Errorf("%w: cluster ID %.80q: want 1 to 63 letters, digits, - or _", runtime.ErrInvalid, p.Cluster)
	case p.Role != stack.RoleManager && p.Role != stack.RoleWorker:
		return fmt.Errorf("%w: role %.80q: want manager or worker", runtime.ErrInvalid, p.Role)
	}
	return nil
}

// PeerOf is who is at the other end of a connection made with a configuration
// of this package, which has verified the certificate; false: the other end
// showed none.
func PeerOf(s tls.ConnectionState) (Peer, bool) {
	if len(s.PeerCertificates) == 0 {
		return Peer{}, false
	}
	p, err := peerIn(s.PeerCertificates[0])
	return p, err == nil
}

// peerIn reads a node certificate's subject. It does not verify the certificate.
func peerIn(c *x509.Certificate) (Peer, error) {
	if c.IsCA || len(c.Subject.Organization) != 1 || len(c.Subject.OrganizationalUnit) != 1 {
		return Peer{}, fmt.Errorf("%w: not the certificate of a node", runtime.ErrInvalid)
	}
	p := Peer{
		Node: c.Subject.CommonName, Cluster: c.Subject.Organization[0],
		Role: stack.Role(c.Subject.OrganizationalUnit[0]),
	}
	if err := p.Validate(); err != nil {
		return Peer{}, err
	}
	if !slices.Equal(c.DNSNames, []string{p.Node}) {
		return Peer{}, fmt.Errorf("%w: the certificate of node %s is made out for other names", runtime.ErrInvalid, p.Node)
	}
	return p, nil
}
