package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dhow-project/dhow/runtime"
)

// Errors to branch on.
var (
	ErrNoKey  = errors.New("no such key")                         // sealed with a key that this ring does not have
	ErrLocked = errors.New("the key file is locked")              // Open needs a Wrapper
	ErrDamage = errors.New("sealed value is damaged or not ours") // altered, or of another record
)

const (
	magic    = "dhs1"
	idLen    = 8
	keyLen   = 32
	nonceLen = 12
	tagLen   = 16
	header   = len(magic) + idLen

	// maxKeys bounds what Import takes; maxName what a value can be bound to.
	maxKeys = 64
	maxName = 1 << 10
)

// Key of a ring.
type key struct {
	ID  string `json:"id"`  // 8 bytes, hex
	Key []byte `json:"key"` // 32 bytes
}

// Ring seals and opens. Its methods may be called at the same time.
type Ring struct {
	path string

	mu      sync.RWMutex
	wrapper Wrapper // nil: the file is in clear
	keys    []key   // the primary last; empty until the first Seal, NewKey or Import
}

// Seal encrypts plain, bound to name: the kind and ID of the record that keeps
// it. The first Seal of a fresh ring makes its key.
func (r *Ring) Seal(plain []byte, name string) ([]byte, error) {
	if len(name) > maxName {
		return nil, fmt.Errorf("seal: %w: name of %d bytes", runtime.ErrInvalid, len(name))
	}
	k, err := r.primary()
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	out := make([]byte, 0, header+nonceLen+len(plain)+tagLen)
	out = append(append(out, magic...), id...)
	nonce := make([]byte, nonceLen)
	rand.Read(nonce) // never fails
	a, err := aead(k)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	bound := bind(out, name)
	return a.Seal(append(out, nonce...), nonce, plain, bound), nil
}

// Open is the plain text of a sealed value that was bound to name.
func (r *Ring) Open(sealed []byte, name string) ([]byte, error) {
	id, err := KeyOf(sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	k, ok := r.key(id)
	if !ok {
		return nil, fmt.Errorf("open %s: %w: it was sealed with key %s; import that manager's keys", name, ErrNoKey, id)
	}
	a, err := aead(k)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	head, rest := sealed[:header], sealed[header:]
	plain, err := a.Open(nil, rest[:nonceLen], rest[nonceLen:], bind(head, name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, ErrDamage)
	}
	return plain, nil
}

// KeyOf is the ID of the key that a value is sealed with.
func KeyOf(sealed []byte) (string, error) {
	if len(sealed) < header+nonceLen+tagLen || !bytes.HasPrefix(sealed, []byte(magic)) {
		return "", ErrDamage
	}
	return hex.EncodeToString(sealed[len(magic):header]), nil
}

// bind is what is authenticated beside the text: header and name.
func bind(head []byte, name string) []byte {
	return append(slices.Clone(head), name...)
}

func aead(k key) (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// Primary is the ID of the key for new values; "" in a fresh ring.
func (r *Ring) Primary() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.keys) == 0 {
		return ""
	}
	return r.keys[len(r.keys)-1].ID
}

// Keys are the IDs of all keys, the primary last.
func (r *Ring) Keys() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]string, len(r.keys))
	for i, k := range r.keys {
		out[i] = k.ID
	}
	return out
}

func (r *Ring) key(id string) (key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if k.ID == id {
			return k, true
		}
	}
	return key{}, false
}

// primary is the key for new values, made when there is none.
func (r *Ring) primary() (key, error) {
	r.mu.RLock()
	if n := len(r.keys); n > 0 {
		defer r.mu.RUnlock()
		return r.keys[n-1], nil
	}
	r.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == 0 {
		if err := r.replaceLocked([]key{newKey()}); err != nil {
			return key{}, err
		}
	}
	return r.keys[len(r.keys)-1], nil
}

func newKey() key {
	id, k := make([]byte, idLen), make([]byte, keyLen)
	rand.Read(id) // never fails
	rand.Read(k)
	return key{ID: hex.EncodeToString(id), Key: k}
}
