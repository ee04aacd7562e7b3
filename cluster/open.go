package cluster

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Sealer keeps what is confidential readable for managers alone. about binds
// the sealed bytes to what they are: they open under the same words only.
type Sealer interface {
	Seal(plain []byte, about string) ([]byte, error)
	Open(sealed []byte, about string) ([]byte, error)
}

// What sealed bytes of the cluster's record are about.
const (
	aboutCA      = "cluster/ca"
	aboutWorker  = "cluster/token/worker"
	aboutManager = "cluster/token/manager"
	aboutGossip  = "cluster/gossip"
)

// Open is the cluster's record when other nodes may join.
func (m *Manager) open() (*state.Cluster, error) {
	c := m.store.Snapshot().Cluster()
	if c == nil || !c.Open {
		return nil, fmt.Errorf("this machine is alone; `dhow swarm init` lets others join: %w", ErrInSwarm)
	}
	return c, nil
}

// OpenCluster lets others join: it makes the certificate authority, the join
// tokens and the keys of the gossip, unless they exist, and stores where this
// node can be reached.
func (m *Manager) OpenCluster(ctx context.Context, self stack.Node, set Settings) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	c := *snap.Cluster()
	n := withFacts(*snap.Node(m.node), self)
	n.Availability = self.Availability
	n.Edits++
	changes := []state.Change{{Node: &n}}
	if err := checkSettings(set); err != nil {
		return err
	}
	if !c.Open {
		if err := m.equip(&c); err != nil {
			return err
		}
		c.Open, c.Settings = true, set
		c.Version++
		c.Updated = time.Now().UnixNano()
		mesh, err := m.ingress(snap, &c)
		if err != nil {
			return err
		}
		changes = append(append(changes, state.Change{Cluster: &c}), mesh...)
	}
	if n.Number == 0 {
		var err error
		if n.Number, err = pickNumber(snap.Cluster(), snap.Nodes(), meshOf(snap)); err != nil {
			return err
		}
	}
	_, err := m.propose(ctx, changes)
	return err
}

// equip makes what a cluster needs to have more than one node.
func (m *Manager) equip(c *state.Cluster) error {
	ca, err := identity.NewCA(c.ID, time.Now())
	if err != nil {
		return err
	}
	if c.CA, err = m.sealCA(ca); err != nil {
		return err
	}
	if err := m.newTokens(c, RotateTokens{Worker: true, Manager: true}); err != nil {
		return err
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	sealed, err := m.cfg.Seal.Seal(key, aboutGossip)
	c.Gossip = [][]byte{sealed}
	return err
}

func (m *Manager) sealCA(ca identity.CA) (*state.CA, error) {
	key, err := m.cfg.Seal.Seal(ca.Key, aboutCA)
	if err != nil {
		return nil, err
	}
	digest, err := ca.Digest()
	return &state.CA{Roots: ca.Roots, Cert: ca.Cert, Cross: ca.Cross, Key: key, Digest: digest}, err
}

func (m *Manager) openCA(c *state.Cluster) (identity.CA, error) {
	if c.CA == nil {
		return identity.CA{}, errors.New("the cluster has no certificate authority")
	}
	key, err := m.cfg.Seal.Open(c.CA.Key, aboutCA)
	return identity.CA{Roots: c.CA.Roots, Cert: c.CA.Cert, Cross: c.CA.Cross, Key: key}, err
}

func (m *Manager) newTokens(c *state.Cluster, which RotateTokens) (err error) {
	if which.Worker {
		c.Tokens.Worker, err = m.cfg.Seal.Seal([]byte(identity.NewToken(c.CA.Digest)), aboutWorker)
	}
	if which.Manager && err == nil {
		c.Tokens.Manager, err = m.cfg.Seal.Seal([]byte(identity.NewToken(c.CA.Digest)), aboutManager)
	}
	return err
}

// Swarm describes the cluster, with its join tokens.
func (m *Manager) Swarm(context.Context) (Swarm, error) {
	c, err := m.open()
	if err != nil {
		return Swarm{}, err
	}
	out := Swarm{ID: c.ID, Created: c.Created, Updated: c.Updated, Version: c.Version, Settings: c.Settings, Roots: c.CA.Roots}
	for _, n := range m.store.Snapshot().Nodes() {
		out.RotationLeft += count(n.Issuer != c.CA.Digest)
	}
	out.Rotating = len(c.CA.Cross) > 0
	if block, _ := pem.Decode(c.CA.Cert); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out.IssuerSubject, out.IssuerKey = cert.RawSubject, cert.RawSubjectPublicKeyInfo
		}
	}
	for _, t := range []struct {
		sealed []byte
		about  string
		to     *string
	}{{c.Tokens.Worker, aboutWorker, &out.WorkerToken}, {c.Tokens.Manager, aboutManager, &out.ManagerToken}} {
		plain, err := m.cfg.Seal.Open(t.sealed, t.about)
		if err != nil {
			return out, fmt.Errorf("join token: %w", err)
		}
		*t.to = string(plain)
	}
	return out, nil
}

// UpdateSwarm replaces the settings, and the join tokens that are named. A
// version other than the record's is refused; 0 is any.
func (m *Manager) UpdateSwarm(ctx context.Context, version uint64, set Settings, rotate RotateTokens) error {
	if err := checkSettings(set); err != nil {
		return err
	}
	return m.changeCluster(ctx, version, func(c *state.Cluster) error {
		c.Settings = set
		return m.newTokens(c, rotate)
	})
}

// MinCertExpiry is the shortest life that nodes' certificates may have.
const MinCertExpiry = identity.MinValidity

func checkSettings(set Settings) error {
	switch {
	case set.CertExpiry != 0 && set.CertExpiry < MinCertExpiry:
		return fmt.Errorf("certificate expiry %s: at least %s: %w", set.CertExpiry, MinCertExpiry, runtime.ErrInvalid)
	case !slices.Contains([]string{"", "all", "none"}, set.Labels[WorkerRequests]):
		return fmt.Errorf("label %s=%s: use all or none: %w", WorkerRequests, set.Labels[WorkerRequests], runtime.ErrInvalid)
	case set.VNIFirst < 0 || set.VNILast < 0 || set.VNIFirst > MaxVNI || set.VNILast > MaxVNI || set.VNILast != 0 && set.VNILast < max(set.VNIFirst, 1) ||
		set.VNILast != 0 && set.VNIFirst == 0 && set.VNILast < state.DefaultVNIFirst:
		return fmt.Errorf("identifiers of networks %d to %d: use 1 to %d: %w", set.VNIFirst, set.VNILast, MaxVNI, runtime.ErrInvalid)
	case set.DataPathPort < 0 || set.DataPathPort > 65535:
		return fmt.Errorf("data path port %d is not between 1 and 65535: %w", set.DataPathPort, runtime.ErrInvalid)
	}
	return nil
}

// RotateCA begins to replace the root of the certificate authority. It is over
// when the last node has a certificate of the new one.
func (m *Manager) RotateCA(ctx context.Context, opt RotateCA) error {
	if len(opt.Cert) > 0 || len(opt.Key) > 0 {
		return fmt.Errorf("a root made elsewhere cannot be used yet; leave it out to have one made: %w", runtime.ErrInvalid)
	}
	return m.changeCluster(ctx, 0, func(c *state.Cluster) error {
		ca, err := m.openCA(c)
		if err != nil {
			return err
		}
		if ca, err = ca.Rotate(time.Now()); err != nil {
			return err
		}
		if c.CA, err = m.sealCA(ca); err != nil {
			return err
		}
		return m.newTokens(c, RotateTokens{Worker: true, Manager: true})
	})
}

// changeCluster stores a change of the cluster's record.
func (m *Manager) changeCluster(ctx context.Context, version uint64, change func(*state.Cluster) error) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	old, err := m.open()
	if err != nil {
		return err
	}
	if version != 0 && version != old.Version {
		return fmt.Errorf("the cluster's settings were changed meanwhile, look again: %w", runtime.ErrConflict)
	}
	c := *old
	if err := change(&c); err != nil {
		return err
	}
	c.Version++
	c.Updated = time.Now().UnixNano()
	_, err = m.propose(ctx, []state.Change{{Cluster: &c}})
	return err
}

// finishRotation takes the old roots out when no node needs them any more.
func (m *Manager) finishRotation(ctx context.Context) error {
	return m.follow(ctx, "rotate certificates", func(snap *state.Snapshot) (bool, error) {
		c := snap.Cluster()
		if c == nil || c.CA == nil || len(c.CA.Cross) == 0 {
			return false, nil
		}
		for _, n := range snap.Nodes() {
			if n.Issuer != c.CA.Digest {
				return false, nil
			}
		}
		return false, m.changeCluster(ctx, c.Version, func(c *state.Cluster) error {
			ca, err := m.openCA(c)
			if err != nil {
				return err
			}
			c.CA, err = m.sealCA(ca.Finish())
			return err
		})
	})
}
