package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/stack"
)

// member is what this machine must know of its cluster before it can ask anybody.
type member struct {
	Cluster   string     `json:"cluster"`
	Node      string     `json:"node"`
	Role      stack.Role `json:"role"`
	Listen    string     `json:"listen"`              // host:port of the cluster port; the host may be an interface's name
	Advertise string     `json:"advertise,omitempty"` // host:port that others are told, likewise
	Own       bool       `json:"own,omitempty"`       // Advertise was an address of this machine when it was given
	DataPath  string     `json:"dataPath,omitempty"`  // address or interface of traffic between containers; "": that of Advertise
	Gossip    string     `json:"gossip"`              // host:port that it gossips on; the host is that of Listen
	Managers  []contact  `json:"managers,omitempty"`  // as last heard
	Entering  bool       `json:"entering,omitempty"`  // what the machine was before is to go first
	Leaving   bool       `json:"leaving,omitempty"`   // nothing of this cluster is to stay
	Removed   bool       `json:"removed,omitempty"`   // the cluster has removed this node
	Force     bool       `json:"force,omitempty"`     // the other managers are lost: go on alone
}

// contact is where a node was last.
type contact struct {
	ID     string `json:"id"`
	Addr   string `json:"addr"`
	Gossip string `json:"gossip,omitempty"`
}

// readMember returns nil for a machine that is solo.
func readMember(dir string) (*member, error) {
	path := filepath.Join(dir, "member.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m member
	if err := json.Unmarshal(data, &m); err != nil || m.Node == "" || m.Cluster == "" {
		return nil, fmt.Errorf("%s is damaged: put it back, or remove %s to start as a machine alone", path, dir)
	}
	return &m, nil
}

// writeMember replaces the file in one step.
func writeMember(dir string, m *member) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "member.json"), data, 0o600)
}

func dropMember(dir string) error { return durable.Remove(filepath.Join(dir, "member.json")) }
