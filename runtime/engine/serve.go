package engine

import (
	"context"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/health"
)

// Serve says whether a container gets new requests. With false, those for names
// and ports that it shares go to others, as long as there are others; the
// connections that it has go on. With true its health decides.
func (e *Engine) Serve(_ context.Context, ref string, on bool) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	e.serve(c, on)
	return nil
}

func (e *Engine) serve(c *container, on bool) {
	c.mu.Lock()
	c.withdrawn = !on
	ready, connected := c.readyLocked(), c.st.Connected != nil
	c.mu.Unlock()
	if connected {
		e.cfg.Networks.SetReady(c.id, ready)
	}
}

// readyLocked reports whether the container is to get new requests.
func (c *container) readyLocked() bool {
	up := c.st.Status == runtime.Running || c.st.Status == runtime.Paused
	return up && !c.withdrawn && (c.st.Health == nil || c.st.Health.Status == health.Healthy)
}
