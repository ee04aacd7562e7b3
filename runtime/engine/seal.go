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
// with a key of this node), so that a container can be started after a reboot
// without its content ever being on disk in plain.
type sealer struct{ aead cipher.AEAD }

const keySize = 32

func openSealer(keyPath string) (*sealer, error) {
	key, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keySize)
		rand.Read(key)
		if err = writeFile(keyPath, key, 0o600); err == nil {
			syncPath(keyPath)
		}
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
	return &sealer{aead}, err
}

// sealSpec returns spec with the content of its files encrypted.
func (s *sealer) sealSpec(spec stack.ContainerSpec) (stack.ContainerSpec, error) {
	return mapFiles(spec, func(data []byte) ([]byte, error) {
		return s.aead.Seal(nil, nil, data, nil), nil
	})
}

func (s *sealer) openSpec(spec stack.ContainerSpec) (stack.ContainerSpec, error) {
	return mapFiles(spec, func(data []byte) ([]byte, error) {
		out, err := s.aead.Open(nil, nil, data, nil)
		if out == nil {
			out = []byte{}
		}
		return out, err
	})
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
