package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
)

// nodeFile is what this node keeps of itself outside of the replicated state.
type nodeFile struct {
	Node string `json:"node"` // ID
}

// SoloID is the ID of a machine alone that keeps its state in dataDir; it is
// made when there is none.
func SoloID(dataDir string) (string, error) {
	id, err := loadIdentity(filepath.Join(dataDir, "cluster"), "")
	return id.Node, err
}

// loadIdentity reads dir/node.json or makes it with the given ID, or a new one.
func loadIdentity(dir, want string) (nodeFile, error) {
	path := filepath.Join(dir, "node.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeIdentity(path, want)
	}
	if err != nil {
		return nodeFile{}, err
	}
	var id nodeFile
	if err := json.Unmarshal(data, &id); err != nil || id.Node == "" {
		return nodeFile{}, fmt.Errorf("%s is damaged: it should hold {\"node\": ID}", path)
	}
	if want != "" && want != id.Node {
		return nodeFile{}, fmt.Errorf("%s is of node %s, not %s", dir, id.Node, want)
	}
	return id, nil
}

func makeIdentity(path, want string) (nodeFile, error) {
	id := nodeFile{Node: want}
	if id.Node == "" {
		id.Node = newID()
	}
	data, err := json.Marshal(id)
	if err != nil {
		return nodeFile{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nodeFile{}, err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return nodeFile{}, err
	}
	return id, os.Rename(tmp, path)
}

// newID is 25 random lower case letters and digits, as the field's tools show for tasks and nodes.
func newID() string {
	n := new(big.Int).SetBytes(randomBytes(17))
	s := fmt.Sprintf("%027s", n.Text(36))
	return s[len(s)-25:]
}

// newHexID is 64 hex digits, as networks have.
func newHexID() string { return hex.EncodeToString(randomBytes(32)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
