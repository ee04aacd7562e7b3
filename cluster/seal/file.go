package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime"
)

// Wrapper encrypts the key file itself, with what is not on this machine.
type Wrapper interface {
	Name() string // of the method; a file wrapped by another one is not opened
	Wrap(plain []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// file is DIR/seal.json.
type file struct {
	Version int             `json:"version"`
	Keys    json.RawMessage `json:"keys,omitempty"`    // in clear
	Wrapper string          `json:"wrapper,omitempty"` // "" in clear
	Wrapped []byte          `json:"wrapped,omitempty"`
}

const fileVersion = 1

// Open reads the ring in dir, making dir if need be; without file it is fresh.
// Open fails with ErrLocked when the file is wrapped and w is nil. With w, a
// file in clear is wrapped at its next change, or by Rewrap.
func Open(dir string, w ...Wrapper) (*Ring, error) {
	r := &Ring{path: filepath.Join(dir, "seal.json")}
	if len(w) > 0 {
		r.wrapper = w[0]
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open seal keys: %w", err)
	}
	if err := durable.Sweep(r.path); err != nil {
		return nil, fmt.Errorf("open seal keys: %w", err)
	}
	data, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open seal keys: %w", err)
	}
	if r.keys, err = decodeFile(data, r.wrapper); err != nil {
		return nil, fmt.Errorf("open seal keys: %s: %w", r.path, err)
	}
	return r, nil
}

func decodeFile(data []byte, w Wrapper) ([]key, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("%w: version %d; this program writes %d", runtime.ErrInvalid, f.Version, fileVersion)
	}
	plain := []byte(f.Keys)
	if f.Wrapper != "" {
		if w == nil {
			return nil, ErrLocked
		}
		if w.Name() != f.Wrapper {
			return nil, fmt.Errorf("%w: by %s", ErrLocked, f.Wrapper)
		}
		var err error
		if plain, err = w.Unwrap(f.Wrapped); err != nil {
			return nil, fmt.Errorf("unlock: %w", err)
		}
	}
	return decodeKeys(plain)
}

// Rewrap writes the file wrapped by w from now on; nil: in clear.
func (r *Ring) Rewrap(w Wrapper) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.wrapper
	r.wrapper = w
	if err := r.writeLocked(r.keys); err != nil {
		r.wrapper = before
		return fmt.Errorf("wrap seal keys: %w", err)
	}
	return nil
}

// replaceLocked makes keys the ring's, on disk first.
func (r *Ring) replaceLocked(keys []key) error {
	if err := r.writeLocked(keys); err != nil {
		return err
	}
	r.keys = keys
	return nil
}

func (r *Ring) writeLocked(keys []key) error {
	f := file{Version: fileVersion}
	plain, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	if r.wrapper == nil {
		f.Keys = plain
	} else {
		f.Wrapper = r.wrapper.Name()
		if f.Wrapped, err = r.wrapper.Wrap(plain); err != nil {
			return err
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return durable.WriteFile(r.path, data, 0o600)
}
