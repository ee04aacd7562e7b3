package image

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// cache keeps what is derived from content that never changes. It is emptied
// whenever something is collected, because then some of it is gone.
type cache struct {
	mu       *sync.Mutex
	resolved map[resolveKey]*resolved        // guarded by mu
	chains   map[digest.Digest]digest.Digest // image ID to chain ID; guarded by mu
	lowers   map[digest.Digest][]string      // chain ID to directories, topmost first; guarded by mu
}

type resolveKey struct {
	target   digest.Digest
	platform string
}

func newCache() cache {
	c := cache{mu: new(sync.Mutex)}
	c.reset()
	return c
}

func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolved = map[resolveKey]*resolved{}
	c.chains = map[digest.Digest]digest.Digest{}
	c.lowers = map[digest.Digest][]string{}
}
