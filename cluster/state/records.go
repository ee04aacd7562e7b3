package state

import (
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Stack is what was applied last, without its services and without the
// content of its secrets and configs: those have tables of their own.
type Stack struct {
	Name          string      `json:"name"`
	Spec          stack.Stack `json:"spec"`
	Removing      bool        `json:"removing,omitempty"`      // goes when its last service has gone
	RemoveVolumes bool        `json:"removeVolumes,omitempty"` // anonymous ones, while removing
	Created       int64       `json:"created"`                 // Unix nanoseconds
	Updated       int64       `json:"updated"`                 // of the last apply
	Index         uint64      `json:"index"`                   // of the last change to it, its services, tasks or networks
	Defined       uint64      `json:"defined,omitempty"`       // of the last change to it or its services
	Logins        []byte      `json:"logins,omitempty"`        // of the registries of its images, sealed
}

// Service is the wish for one service.
type Service struct {
	Stack         string              `json:"stack"`
	Name          string              `json:"name"`
	Spec          stack.Service       `json:"spec"`    // wanted now
	Hash          string              `json:"hash"`    // Stack.ServiceHash when Version was made
	Version       uint64              `json:"version"` // index of the command that last changed what its containers are made of
	History       []Version           `json:"history"` // oldest first, the current one last: those that tasks use and the last KeepVersions
	Desired       stack.Desired       `json:"desired"` // of a person: run, stop, pause; remove: no containers until the next apply or start
	Removing      bool                `json:"removing,omitempty"`
	RemoveVolumes bool                `json:"removeVolumes,omitempty"`
	Left          stack.Left          `json:"left,omitempty"`      // kept by the state: LeftChange
	Update        *stack.UpdateStatus `json:"update,omitempty"`    // kept by the state: begun with a new version, then UpdateChange. Nil: it has had one version only
	Addresses     []stack.TaskAddress `json:"addresses,omitempty"` // virtual ones by network, chosen by the leader. Never changed in place
	Ports         []uint16            `json:"ports,omitempty"`     // host ports chosen for its ingress ports that name none, in their order
	Grace         *time.Duration      `json:"grace,omitempty"`     // that a person gave the containers to stop with the last wish; nil: the spec's
}

// Version is one version of a service's spec.
type Version struct {
	Version uint64        `json:"version"`
	Hash    string        `json:"hash"`
	Spec    stack.Service `json:"spec"`
	Created int64         `json:"created"` // Unix nanoseconds
}

// KeepVersions is how many versions of a service's spec are kept beside those in use.
const KeepVersions = 5

// SpecOf returns the spec and hash of a version: the current spec, with its
// number of replicas and the like, for the current version. Nil when it is not known.
func (s *Service) SpecOf(version uint64) (*stack.Service, string) {
	if version == s.Version {
		return &s.Spec, s.Hash
	}
	for i := range s.History {
		if s.History[i].Version == version {
			return &s.History[i].Spec, s.History[i].Hash
		}
	}
	return nil, ""
}

// Network is a network with resolved subnets.
type Network struct {
	stack.Network
	Asked stack.Network  `json:"asked"`          // as asked for
	Next  *stack.Network `json:"next,omitempty"` // its successor under the same name, once no container uses this one
}

// Volume is a named volume that has been bound to a node: its data is there, and
// so all tasks that use it must be. A volume that every node has of its own has no record.
type Volume struct {
	Name    string            `json:"name"`            // real name: "shop_data"
	Stack   string            `json:"stack,omitempty"` // that declares it
	Key     string            `json:"key,omitempty"`   // in the stack file: "data"
	Node    string            `json:"node"`
	Driver  string            `json:"driver,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created int64             `json:"created,omitempty"` // when it was bound, Unix nanoseconds
}

// Secret is the content of a secret, by its real name.
type Secret struct {
	Name     string       `json:"name"`
	Stack    string       `json:"stack,omitempty"`
	Spec     stack.Secret `json:"spec"`               // its Sum is of the content that is wanted now; without Data
	Versions []Content    `json:"versions,omitempty"` // that services or revisions refer to, the newest last
	Gone     bool         `json:"gone,omitempty"`     // no stack has it any more; kept for what still refers to its versions
}

// Config is the content of a config, by its real name: a record like that of a secret.
type Config struct {
	Name     string       `json:"name"`
	Stack    string       `json:"stack,omitempty"`
	Spec     stack.Config `json:"spec"`
	Versions []Content    `json:"versions,omitempty"`
	Gone     bool         `json:"gone,omitempty"`
}

// Content is one version of the content of a secret or config.
type Content struct {
	Sum    string `json:"sum"`
	Sealed []byte `json:"sealed"`
}
