package state

import (
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Cluster is the one record about the cluster itself.
type Cluster struct {
	ID       string   `json:"id"` // of this cluster alone, chosen when it was made
	Created  int64    `json:"created"`
	Updated  int64    `json:"updated,omitempty"`
	Version  uint64   `json:"version,omitempty"` // grows with every change by a person
	Open     bool     `json:"open,omitempty"`    // other nodes may join; false: a machine alone
	Settings Settings `json:"settings,omitzero"`
	CA       *CA      `json:"ca,omitempty"`     // nil until Open
	Tokens   Tokens   `json:"tokens,omitzero"`  // sealed
	Gossip   [][]byte `json:"gossip,omitempty"` // keys of the gossip, the one in use first; each sealed
	SumKey   []byte   `json:"sumKey,omitempty"` // of the sums of secrets and configs, sealed; nil until there is one

	// Kept by the state, as what was given last must not be given again at once.
	LastNumber int `json:"lastNumber,omitempty"` // the highest that a node was given
	LastVNI    int `json:"lastVNI,omitempty"`    // that a network was given
}

// Settings of a cluster that a person may change. The zero value of each means its default.
type Settings struct {
	TaskHistory      int               `json:"taskHistory,omitempty"`      // ended tasks kept for each slot; 0: DefaultTaskHistory, less: none
	CertExpiry       time.Duration     `json:"certExpiry,omitempty"`       // validity of node certificates; 0: 90 days
	SnapshotInterval uint64            `json:"snapshotInterval,omitempty"` // commands between two snapshots; 0: 4096
	Labels           map[string]string `json:"labels,omitempty"`
	DataPathPort     int               `json:"dataPathPort,omitempty"` // of VXLAN; 0: 4789
	AddressPools     []string          `json:"addressPools,omitempty"` // of networks that span nodes
	SubnetSize       int               `json:"subnetSize,omitempty"`
	VNIFirst         int               `json:"vniFirst,omitempty"` // of networks; 0: DefaultVNIFirst
	VNILast          int               `json:"vniLast,omitempty"`  // 0: the last there is
}

// DefaultTaskHistory is how many ended tasks are kept for each slot.
const DefaultTaskHistory = 5

// CA is the cluster's certificate authority, as package identity has it, with
// the key sealed.
type CA struct {
	Roots  []byte `json:"roots"`           // PEM, all that are trusted
	Cert   []byte `json:"cert"`            // PEM, the one that signs
	Cross  []byte `json:"cross,omitempty"` // PEM, while older roots are trusted too
	Key    []byte `json:"key"`             // of Cert, sealed
	Digest string `json:"digest"`          // of Cert: what certificates have as issuer
}

// Tokens are what a machine shows to join, each sealed.
type Tokens struct {
	Worker  []byte `json:"worker,omitempty"`
	Manager []byte `json:"manager,omitempty"`
}

// DefaultVNIFirst is above what other managers of overlays use by default.
const DefaultVNIFirst = 0x10000

// putCluster stores the cluster's record; what is kept by the state stays.
func (t *tx) putCluster(c Cluster) {
	if old := t.cluster; old != nil {
		c.LastNumber, c.LastVNI = max(c.LastNumber, old.LastNumber), old.LastVNI
	}
	t.cluster = &c
}

// spend notes a number and an identifier that were given; 0: none.
func (t *tx) spend(number, vni int) {
	if t.cluster == nil || number <= t.cluster.LastNumber && vni == 0 {
		return
	}
	c := *t.cluster
	c.LastNumber = max(c.LastNumber, number)
	if vni != 0 {
		c.LastVNI = vni
	}
	t.cluster = &c
}

// spendVNI notes the identifiers of a network that it had not before.
func (t *tx) spendVNI(n, old *Network) {
	for _, v := range []*stack.Network{&n.Network, n.Next} {
		if v == nil || v.VNI == 0 || old != nil && (old.VNI == v.VNI || old.Next != nil && old.Next.VNI == v.VNI) {
			continue
		}
		t.spend(0, v.VNI)
	}
}
