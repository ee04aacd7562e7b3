package seal

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime"
)

// Rotate makes a new key and the primary of it. With several managers, let the
// others have a key before it is used: NewKey, Export to each, then Use.
func (r *Ring) Rotate() error {
	id, err := r.NewKey()
	if err != nil {
		return err
	}
	return r.Use(id)
}

// NewKey adds a key that reads but does not seal yet, unless it is the first.
func (r *Ring) NewKey() (id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) >= maxKeys {
		return "", fmt.Errorf("new key: %w: the ring has %d; seal the records anew and retire old keys", runtime.ErrConflict, len(r.keys))
	}
	k := newKey()
	at := max(len(r.keys)-1, 0) // before the primary
	if err := r.replaceLocked(slices.Insert(slices.Clone(r.keys), at, k)); err != nil {
		return "", fmt.Errorf("new key: %w", err)
	}
	return k.ID, nil
}

// Use makes a key of the ring the primary.
func (r *Ring) Use(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, ok := withPrimary(r.keys, id)
	if !ok {
		return fmt.Errorf("use key %s: %w", id, ErrNoKey)
	}
	if keys[len(keys)-1].ID == r.keys[len(r.keys)-1].ID {
		return nil
	}
	if err := r.replaceLocked(keys); err != nil {
		return fmt.Errorf("use key %s: %w", id, err)
	}
	return nil
}

func withPrimary(keys []key, id string) ([]key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.ID == id })
	if i < 0 {
		return nil, false
	}
	k := keys[i]
	return append(slices.Delete(slices.Clone(keys), i, i+1), k), true
}

// Retire forgets all keys but the primary and keep. What is sealed with a
// forgotten key cannot be read any more: seal it anew first (KeyOf tells which).
func (r *Ring) Retire(keep ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == 0 {
		return nil
	}
	primary := r.keys[len(r.keys)-1].ID
	keys := slices.DeleteFunc(slices.Clone(r.keys), func(k key) bool {
		return k.ID != primary && !slices.Contains(keep, k.ID)
	})
	if len(keys) == len(r.keys) {
		return nil
	}
	if err := r.replaceLocked(keys); err != nil {
		return fmt.Errorf("retire keys: %w", err)
	}
	return nil
}

// Forget drops all keys, here and on disk, for a node that is no manager any more.
func (r *Ring) Forget() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := durable.Remove(r.path); err != nil {
		return fmt.Errorf("forget keys: %w", err)
	}
	r.keys = nil
	return nil
}

// Export is all keys, in clear: for another manager over mTLS, or for an archive
// that is protected otherwise.
func (r *Ring) Export() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return json.Marshal(r.keys)
}

// Of is a ring with the keys that Export gave, which opens what they sealed. It
// has no file and takes no new keys.
func Of(exported []byte) (*Ring, error) {
	keys, err := decodeKeys(exported)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &Ring{keys: keys}, nil
}

// Import adds the keys of another ring and makes its primary the primary. Keys
// that the ring has already stay.
func (r *Ring) Import(exported []byte) error {
	add, err := decodeKeys(exported)
	if err != nil {
		return fmt.Errorf("import keys: %w", err)
	}
	if len(add) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Clone(r.keys)
	for _, k := range add {
		i := slices.IndexFunc(keys, func(have key) bool { return have.ID == k.ID })
		if i < 0 {
			keys = append(keys, k)
		} else if !slices.Equal(keys[i].Key, k.Key) {
			return fmt.Errorf("import keys: %w: key %s is another one here", runtime.ErrConflict, k.ID)
		}
	}
	if len(keys) > maxKeys {
		return fmt.Errorf("import keys: %w: more than %d", runtime.ErrInvalid, maxKeys)
	}
	keys, _ = withPrimary(keys, add[len(add)-1].ID)
	if slices.EqualFunc(keys, r.keys, func(a, b key) bool { return a.ID == b.ID }) {
		return nil
	}
	if err := r.replaceLocked(keys); err != nil {
		return fmt.Errorf("import keys: %w", err)
	}
	return nil
}

// decodeKeys reads and checks the plain form of a ring.
func decodeKeys(data []byte) ([]key, error) {
	var keys []key
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%w: %d keys, at most %d", runtime.ErrInvalid, len(keys), maxKeys)
	}
	seen := map[string]bool{}
	for i, k := range keys {
		id, err := hex.DecodeString(k.ID)
		if err != nil || len(id) != idLen || hex.EncodeToString(id) != k.ID || len(k.Key) != keyLen || seen[k.ID] {
			return nil, fmt.Errorf("%w: key %d of %d is malformed", runtime.ErrInvalid, i+1, len(keys))
		}
		seen[k.ID] = true
	}
	return keys, nil
}
