package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// aboutSums binds the key of the sums; aboutContent a version of a secret or
// config, whose sum is of its name too.
const aboutSums = "cluster/sums"

func aboutContent(kind, sum string) string { return kind + "/" + sum }

// summer makes the sums that stand for contents. They have a key, because from a
// plain hash a short secret could be guessed.
type summer struct {
	key   []byte
	store []state.Change // stores the key, when it is new
}

// summer has the cluster's key, made when there is none.
func (m *Manager) summer(snap *state.Snapshot) (k summer, err error) {
	c := snap.Cluster()
	if c == nil {
		return k, ErrNotLeader // who leads has a record
	}
	if len(c.SumKey) > 0 {
		if k.key, err = m.cfg.Seal.Open(c.SumKey, aboutSums); err != nil {
			return k, fmt.Errorf("key of the sums of secrets: %w", err)
		}
		return k, nil
	}
	rec := *c
	k.key = make([]byte, 32)
	rand.Read(k.key) // never fails
	if rec.SumKey, err = m.cfg.Seal.Seal(k.key, aboutSums); err != nil {
		return k, fmt.Errorf("key of the sums of secrets: %w", err)
	}
	k.store = []state.Change{{Cluster: &rec}}
	return k, nil
}

// sum stands for a content: 32 hex digits.
func (k summer) sum(kind, name string, data []byte) string {
	h := hmac.New(sha256.New, k.key)
	_, _ = io.WriteString(h, kind+"\x00"+name+"\x00") // a hash takes all
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// withSums returns s with the sums of its secrets and configs: of its own ones
// by their content, of external ones as their owners have them.
func withSums(snap *state.Snapshot, s stack.Stack, k summer) stack.Stack {
	s.Secrets, s.Configs = maps.Clone(s.Secrets), maps.Clone(s.Configs)
	for key, v := range s.Secrets {
		s.Secrets[key] = k.with(snap, kindSecret, v)
	}
	for key, v := range s.Configs {
		s.Configs[key] = stack.Config(k.with(snap, kindConfig, stack.Secret(v)))
	}
	return s
}

func (k summer) with(snap *state.Snapshot, kind string, v stack.Secret) stack.Secret {
	switch {
	case v.External:
		v.Sum = externalSum(snap, kind, v.Name)
		return v
	case v.Data == nil:
		v.Data = []byte{} // nil is a content that is not at hand
	}
	v.Sum = k.sum(kind, v.Name, v.Data)
	return v
}

// externalSum is that of what a secret or config of another stack is now.
func externalSum(snap *state.Snapshot, kind, name string) string {
	if rec := recordOf(snap, kind, name); rec != nil && !rec.gone {
		return rec.spec.Sum
	}
	return ""
}

// content is a version of a secret or config; the newest when sum is "". False
// when there is none.
func (m *Manager) content(snap *state.Snapshot, kind, name, sum string) ([]byte, bool) {
	rec := recordOf(snap, kind, name)
	if rec == nil {
		return nil, false
	}
	if sum == "" {
		sum = rec.spec.Sum
	}
	if sum == "" { // of a time when nothing was sealed
		return rec.spec.Data, !rec.gone
	}
	sealed, ok := rec.version(sum)
	if !ok {
		return nil, false
	}
	about := aboutContent(kind, sum)
	if data, ok := m.contents.get(about); ok {
		return data, true
	}
	data, err := m.cfg.Seal.Open(sealed, about)
	if err != nil {
		m.log.Error("a content cannot be opened", "kind", kind, "name", name, "error", err)
		return nil, false
	}
	return m.contents.put(about, data), true
}

// sealPlain seals contents that stand in clear in the state, as they did before
// there was a seal.
func (m *Manager) sealPlain(ctx context.Context) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	var plain []*record
	for _, s := range snap.Stacks() {
		for _, r := range recordsOf(snap, s.Name) {
			if len(r.versions) == 0 {
				plain = append(plain, r)
			}
		}
	}
	if len(plain) == 0 {
		return nil
	}
	k, err := m.summer(snap)
	if err != nil {
		return err
	}
	changes := k.store
	for _, r := range plain {
		v := k.with(snap, r.kind, r.spec)
		now, err := m.next(nil, r.stack, file{r.kind, v.Key, v}, nil)
		if err != nil {
			return fmt.Errorf("%s %s: %w", r.kind, r.name, err)
		}
		changes = append(changes, now.store())
	}
	_, err = m.propose(ctx, changes)
	return err
}

// contentCache keeps opened contents: nodes are told of their tasks often, and
// what they are told is recognized by where it is in memory.
type contentCache struct {
	mu       sync.Mutex
	now, old map[string][]byte // guarded by mu: two generations, so that what nobody asks for goes
	size     int               // guarded by mu: bytes in now
}

// A generation of the cache.
const (
	cacheContents = 1024
	cacheBytes    = 16 << 20
)

func (c *contentCache) get(about string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.now[about]
	if !ok {
		if data, ok = c.old[about]; ok {
			c.putLocked(about, data)
		}
	}
	return data, ok
}

// put returns what is kept under about: data, unless there was something already.
func (c *contentCache) put(about string, data []byte) []byte {
	if data == nil {
		data = []byte{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.now[about]; ok {
		return have
	}
	c.putLocked(about, data)
	return data
}

func (c *contentCache) putLocked(about string, data []byte) {
	if c.now == nil || len(c.now) >= cacheContents || c.size+len(data) > cacheBytes {
		c.now, c.old, c.size = map[string][]byte{}, c.now, 0
	}
	c.now[about] = data
	c.size += len(data)
}
