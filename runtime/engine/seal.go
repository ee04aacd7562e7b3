package engine

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/dhow-project/dhow/stack"
)

// sealer encrypts the content of secrets and configs in records (AES-256-GCM
// with a key of this node), so that a container can be started after a reboot.
//
// It protects a copy of the records without the key: a backup of containers/, a
// disk that is given away after the key was destroyed. It does not protect
// against who can read the whole data directory, where the key is. The log of
// the managers has the same content sealed with keys of theirs.
type sealer struct {
	aead cipher.AEAD
	path string // of the key
}

const keySize = 32

// openSealer reads the key, or makes one when needed tells that nothing was
// sealed with another.
func openSealer(keyPath string, needed func() bool) (*sealer, error) {
	key, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if needed() {
			return nil, fmt.Errorf("key of this node: %s is missing, and secrets of containers are sealed with it: "+
				"bring it back from a backup, or give those secrets up with head -c %d /dev/urandom > %[1]s", keyPath, keySize)
		}
		key = make([]byte, keySize)
		rand.Read(key)
		err = writeDurable(keyPath, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("key of this node: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("key of this node: %s has %d bytes, want %d", keyPath, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead, keyPath}, err
}

// sealSpec returns spec with the content of its files encrypted.
func (s *sealer) sealSpec(spec stack.ContainerSpec) (stack.ContainerSpec, error) {
	return mapFiles(spec, func(data []byte) ([]byte, error) {
		return s.aead.Seal(nil, nil, data, nil), nil
	})
}

// openSpec undoes sealSpec. When some content cannot be decrypted, the error
// says so and that content is nil, with which nothing is started.
func (s *sealer) openSpec(spec stack.ContainerSpec) (stack.ContainerSpec, error) {
	var failed error
	out, err := mapFiles(spec, func(data []byte) ([]byte, error) {
		plain, err := s.aead.Open(nil, nil, data, nil)
		if err != nil {
			failed = fmt.Errorf("secrets cannot be decrypted with the key in %s: "+
				"bring the key back that they were sealed with, or remove the container and create it again: %w", s.path, err)
			return nil, nil
		}
		if plain == nil {
			plain = []byte{}
		}
		return plain, nil
	})
	return out, errors.Join(failed, err)
}

// mapFiles applies f to all content; files without any (nil) are left alone.
func mapFiles(spec stack.ContainerSpec, f func([]byte) ([]byte, error)) (stack.ContainerSpec, error) {
	for _, list := range []*[]stack.FileRef{&spec.Secrets, &spec.Configs} {
		if len(*list) == 0 {
			continue
		}
		mapped := append([]stack.FileRef(nil), *list...)
		for i := range mapped {
			if mapped[i].Data == nil {
				continue
			}
			data, err := f(mapped[i].Data)
			if err != nil {
				return spec, fmt.Errorf("%s: %w", mapped[i].Source, err)
			}
			mapped[i].Data = data
		}
		*list = mapped
	}
	return spec, nil
}
