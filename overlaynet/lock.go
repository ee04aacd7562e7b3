package overlaynet

import "sync"

// keyLock is a mutex that can be a map's value.
type keyLock struct{ *sync.Mutex }

func newKeyLock() keyLock { return keyLock{new(sync.Mutex)} }

// keyed holds one mutex per key, as long as somebody holds or wants it.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*counted // guarded by mu
}

type counted struct {
	sync.Mutex
	users int // guarded by keyed.mu
}

// lock waits for the key's mutex and returns what unlocks it.
func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*counted{}
	}
	c := k.locks[key]
	if c == nil {
		c = new(counted)
		k.locks[key] = c
	}
	c.users++
	k.mu.Unlock()
	c.Lock()
	return func() {
		c.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if c.users--; c.users == 0 {
			delete(k.locks, key)
		}
	}
}
