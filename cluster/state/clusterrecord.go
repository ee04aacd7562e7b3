package state

import "time"

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
