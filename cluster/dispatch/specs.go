package dispatch

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"unsafe"

	"github.com/dhow-project/dhow/stack"
)

// specBook encodes what assignments point to, once for all nodes. What is
// pointed to never changes, so a pointer stands for its content; two generations
// of them are remembered, so that what nobody asks for any more is forgotten.
type specBook struct {
	key []byte // of the references of secrets: a plain hash of a short secret could be guessed

	mu       sync.Mutex
	now, old map[any]spec // guarded by mu
}

// generation is how many specs are encoded before the older half is forgotten.
const generation = 16 << 10

func newSpecBook() *specBook {
	key := make([]byte, 32)
	rand.Read(key)
	return &specBook{key: key, now: map[any]spec{}}
}

// content names data by where it is: it never changes there.
type content struct {
	data   *byte
	size   int
	secret bool
}

func (b *specBook) service(s *stack.Service) (spec, error) {
	return b.get(s, kindService, func() ([]byte, error) { return json.Marshal(s) })
}

func (b *specBook) stack(s *stack.Stack) (spec, error) {
	return b.get(s, kindStack, func() ([]byte, error) { return json.Marshal(s) })
}

// file is the content of a secret or a config.
func (b *specBook) file(data []byte, kind string) (spec, error) {
	if len(data) == 0 {
		return b.make(kind, func() ([]byte, error) { return json.Marshal([]byte{}) })
	}
	key := content{unsafe.SliceData(data), len(data), kind == kindSecret}
	return b.get(key, kind, func() ([]byte, error) { return json.Marshal(data) })
}

func (b *specBook) get(key any, kind string, encode func() ([]byte, error)) (spec, error) {
	b.mu.Lock()
	s, ok := b.now[key]
	if !ok {
		if s, ok = b.old[key]; ok {
			b.keepLocked(key, s)
		}
	}
	b.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := b.make(kind, encode)
	if err != nil {
		return s, err
	}
	b.mu.Lock()
	b.keepLocked(key, s)
	b.mu.Unlock()
	return s, nil
}

func (b *specBook) keepLocked(key any, s spec) {
	if len(b.now) >= generation {
		b.now, b.old = map[any]spec{}, b.now
	}
	b.now[key] = s
}

func (b *specBook) make(kind string, encode func() ([]byte, error)) (spec, error) {
	data, err := encode()
	if err != nil {
		return spec{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	var sum []byte
	if kind == kindSecret {
		h := hmac.New(sha256.New, b.key)
		h.Write(data)
		sum = h.Sum(nil)
	} else {
		all := sha256.Sum256(data)
		sum = all[:]
	}
	return spec{Ref: kind[:3] + base64.RawURLEncoding.EncodeToString(sum[:16]), Kind: kind, Data: data}, nil
}
