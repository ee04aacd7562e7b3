package engine

import (
	"maps"

	"github.com/dhow-project/dhow/runtime"
)

// publish tells the bus what happened to c: Docker's action names, with the
// labels, image and name as attributes. attrs are key, value, key, value, ...
func (e *Engine) publish(c *container, action string, attrs ...string) {
	if e.cfg.Bus == nil {
		return
	}
	c.mu.Lock()
	all := make(map[string]string, len(c.rec.Spec.Labels)+2+len(attrs)/2)
	maps.Copy(all, c.rec.Spec.Labels)
	all["name"], all["image"] = c.rec.Name, c.rec.Spec.Image
	c.mu.Unlock()
	for i := 0; i+1 < len(attrs); i += 2 {
		all[attrs[i]] = attrs[i+1]
	}
	e.cfg.Bus.Publish(runtime.Event{Type: "container", Action: action, ID: c.id, Attrs: all})
}
