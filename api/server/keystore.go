package server

import "sync"

// maxKeys bounds what clients that never start their execs can leave behind.
const maxKeys = 4096

// keyStore remembers something about execs by their ID: the detach keys
// between create and start, the node that has it.
type keyStore struct {
	mu   sync.Mutex
	keys map[string]string // guarded by mu; by exec ID
}

func (k *keyStore) set(id, keys string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= maxKeys {
		k.keys = map[string]string{}
	}
	k.keys[id] = keys
}

func (k *keyStore) take(id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.keys[id]
	delete(k.keys, id)
	return keys
}

func (k *keyStore) get(id string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[id]
}
