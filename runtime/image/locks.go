package image

import (
	"context"
	"sync"
)

// keyedLocks are mutexes by key that give up when the context ends. They keep
// two pulls from fetching a blob twice and two unpacks from making a chain
// twice. They fit containerd's KeyedLocker.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock // guarded by mu; present while held or awaited
}

type keyedLock struct {
	held  chan struct{} // full while somebody holds it
	users int
}

func newKeyedLocks() *keyedLocks { return &keyedLocks{locks: map[string]*keyedLock{}} }

// Lock waits for key, or until ctx ends.
func (k *keyedLocks) Lock(ctx context.Context, key string) error {
	k.mu.Lock()
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		k.drop(key, l)
		return ctx.Err()
	}
}

// Unlock releases key, which the caller holds.
func (k *keyedLocks) Unlock(key string) {
	k.mu.Lock()
	l := k.locks[key]
	k.mu.Unlock()
	<-l.held
	k.drop(key, l)
}

func (k *keyedLocks) drop(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
