package image

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// cache keeps what is derived from content that never changes. It is emptied
// whenever something is collected, because then some of it is gone.
type cache struct {
	mu       *sync.Mutex
	resolved map[digest.Digest][]*resolved   // by target; guarded by mu
	chains   map[digest.Digest]digest.Digest // chain ID by image ID; guarded by mu
	lowers   map[digest.Digest][]string      // directories by chain ID, topmost first; guarded by mu
}

func newCache() cache {
	c := cache{mu: new(sync.Mutex)}
	c.reset()
	return c
}

func (c *cache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolved = map[digest.Digest][]*resolved{}
	c.chains = map[digest.Digest]digest.Digest{}
	c.lowers = map[digest.Digest][]string{}
}

func (c *cache) variants(target digest.Digest) []*resolved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resolved[target]
}

func (c *cache) setVariants(target digest.Digest, vs []*resolved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resolved[target] = vs
}

// forget makes the next look at any target a fresh one: another platform has
// been fetched, or layers have been unpacked.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.resolved)
}

func (c *cache) chain(imageID digest.Digest) (digest.Digest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chain, ok := c.chains[imageID]
	return chain, ok
}

func (c *cache) setChain(imageID, chain digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chains[imageID] = chain
}

func (c *cache) lower(chain digest.Digest) ([]string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs, ok := c.lowers[chain]
	return dirs, ok
}

func (c *cache) setLower(chain digest.Digest, dirs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lowers[chain] = dirs
}
