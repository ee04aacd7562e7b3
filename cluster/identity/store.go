package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime"
)

// Store keeps the key, the certificate and the roots of one node.
//
//	DIR/node.pem      0600: key, certificate with its cross-signed ones, roots
//	DIR/pending.key   0600: the key of a request that is not answered yet
//
// One file holds all that belongs together, so that no crash leaves a key with
// the certificate of another, or a certificate without its root. All methods may
// be called at the same time.
type Store struct {
	dir string
	now func() time.Time
	cur atomic.Pointer[material] // never nil; replaced whole

	mu      sync.Mutex        // guards the files and what follows
	pending *ecdsa.PrivateKey // of pending.key; nil without
	changed chan struct{}     // closed at the next change
}

// Option of OpenStore.
type Option func(*Store)

// Clock replaces time.Now.
func Clock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// OpenStore reads dir, making it if need be. A fresh store has nothing: a node
// alone needs no certificate. Expired certificates are no error.
func OpenStore(dir string, opts ...Option) (*Store, error) {
	s := &Store{dir: dir, now: time.Now, changed: make(chan struct{})}
	for _, o := range opts {
		o(s)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	if err := errors.Join(durable.Sweep(s.path()), durable.Sweep(s.pendingPath())); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	m, err := readMaterial(s.path())
	if err != nil {
		return nil, fmt.Errorf("open identity: %s: %w; remove the file and join the cluster again", s.path(), err)
	}
	s.cur.Store(m)
	if err := s.readPending(); err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	return s, nil
}

func (s *Store) path() string        { return filepath.Join(s.dir, "node.pem") }
func (s *Store) pendingPath() string { return filepath.Join(s.dir, "pending.key") }

// readPending takes up the key of a request that a crash interrupted. One that
// cannot be read is dropped: the next request makes another.
func (s *Store) readPending() error {
	data, err := os.ReadFile(s.pendingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := parseKey(data)
	if cur := s.cur.Load(); err != nil || cur.key != nil && key.Equal(cur.key) {
		return durable.Remove(s.pendingPath())
	}
	s.pending = key
	return nil
}

// Self is who this node is; false: it has no certificate.
func (s *Store) Self() (Peer, bool) {
	m := s.cur.Load()
	return m.peer, m.leaf != nil
}

// Expiry is the end of the certificate's validity; zero without certificate.
func (s *Store) Expiry() time.Time {
	if m := s.cur.Load(); m.leaf != nil {
		return m.leaf.NotAfter
	}
	return time.Time{}
}

// RenewAt is when to ask for the next certificate, the same at every start;
// zero without certificate. Ask at once when Issuer is not the cluster's signing
// root, or when Self's role is not what the node list says.
func (s *Store) RenewAt() time.Time {
	if m := s.cur.Load(); m.leaf != nil {
		return RenewAt(m.leaf, seedOf(m.leaf))
	}
	return time.Time{}
}

// Issuer is the digest of the root that signed the certificate; "" without certificate.
func (s *Store) Issuer() string { return s.cur.Load().issuer }

// Roots is the bundle that this node trusts; nil before it has one.
func (s *Store) Roots() []byte {
	m := s.cur.Load()
	if len(m.roots) == 0 {
		return nil
	}
	return certPEM(m.roots...)
}

// Changed is closed when the certificate or the roots change next.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// NewCSR makes a key and a request for its certificate. The key is on disk
// before the request exists; until Install it is used for every request, so
// that an answer which comes late, or after a crash, still fits.
func (s *Store) NewCSR() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		if err := s.makePendingLocked(); err != nil {
			return nil, fmt.Errorf("make node key: %w", err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, s.pending)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCSR, Bytes: der}), nil
}

func (s *Store) makePendingLocked() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	data, err := keyPEM(key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.pendingPath(), data, 0o600); err != nil {
		return err
	}
	s.pending = key
	return nil
}

// Install puts a certificate into use that answers NewCSR. rootsPEM nil keeps
// the roots. New handshakes use it from now on; open connections stay.
func (s *Store) Install(certPEM, rootsPEM []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.checkLocked(certPEM, rootsPEM)
	if err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	if err := s.replaceLocked(m); err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	if s.pending != nil && s.pending.Equal(m.key) {
		if err := durable.Remove(s.pendingPath()); err != nil {
			return fmt.Errorf("install certificate: %w", err)
		}
		s.pending = nil
	}
	return nil
}

// checkLocked makes the material of an Install, or says why it must not be used.
func (s *Store) checkLocked(certPEM, rootsPEM []byte) (*material, error) {
	old := s.cur.Load()
	chain, err := parseCerts(certPEM)
	if err != nil {
		return nil, err
	}
	roots := old.roots
	if rootsPEM != nil {
		if roots, err = parseRoots(rootsPEM); err != nil {
			return nil, err
		}
	}
	var key *ecdsa.PrivateKey
	for _, k := range []*ecdsa.PrivateKey{s.pending, old.key} {
		if k != nil && k.PublicKey.Equal(chain[0].PublicKey) {
			key = k
		}
	}
	if key == nil {
		return nil, fmt.Errorf("%w: it is for a key that this node does not have", runtime.ErrInvalid)
	}
	m, err := newMaterial(key, chain, roots)
	if err != nil {
		return nil, err
	}
	if _, err := m.verify(chain, x509.ExtKeyUsageServerAuth, s.now()); err != nil {
		return nil, err
	}
	if old.leaf != nil && (old.peer.Node != m.peer.Node || old.peer.Cluster != m.peer.Cluster) {
		return nil, fmt.Errorf("%w: this is node %s of cluster %s; leave it first", runtime.ErrConflict, old.peer.Node, old.peer.Cluster)
	}
	return m, nil
}

// SetRoots replaces the bundle. It refuses one that the node's own certificate
// does not come from: the node would lock itself out.
func (s *Store) SetRoots(rootsPEM []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	roots, err := parseRoots(rootsPEM)
	if err != nil {
		return fmt.Errorf("set roots: %w", err)
	}
	old := s.cur.Load()
	if bytes.Equal(certPEM(old.roots...), certPEM(roots...)) {
		return nil
	}
	m, err := newMaterial(old.key, old.chain, roots)
	if err != nil {
		return fmt.Errorf("set roots: %w", err)
	}
	if err := s.replaceLocked(m); err != nil {
		return fmt.Errorf("set roots: %w", err)
	}
	return nil
}

// Clear forgets everything, for a node that leaves its cluster.
func (s *Store) Clear() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(durable.Remove(s.path()), durable.Remove(s.pendingPath())); err != nil {
		return fmt.Errorf("clear identity: %w", err)
	}
	s.pending = nil
	s.useLocked(&material{})
	return nil
}

func (s *Store) replaceLocked(m *material) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.path(), data, 0o600); err != nil {
		return err
	}
	s.useLocked(m)
	return nil
}

func (s *Store) useLocked(m *material) {
	s.cur.Store(m)
	close(s.changed)
	s.changed = make(chan struct{})
}
