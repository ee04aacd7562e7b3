package engine

import (
	"strconv"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// use is what a run has of the node's networks and volumes. Docker tells of it
// with events of the network and of the volume, not of the container.
type use struct {
	endpoints []runtime.Endpoint
	mounts    []runtime.MountPoint
}

// useLocked is what the run under way uses.
func (c *container) useLocked() use {
	u := use{mounts: append([]runtime.MountPoint(nil), c.st.Mounts...)}
	if c.st.Connected != nil {
		u.endpoints = append([]runtime.Endpoint(nil), c.st.Connected.Endpoints...)
	}
	return u
}

// publishUse tells that c begins to use u, before its start is told.
func (e *Engine) publishUse(c *container, u use) {
	for _, ep := range u.endpoints {
		e.publishNetwork(c, "connect", ep)
	}
	for _, m := range u.mounts {
		e.publishVolume(c, "mount", m)
	}
}

// publishRelease tells that c has let go of u, after its end is told.
func (e *Engine) publishRelease(c *container, u use) {
	for _, ep := range u.endpoints {
		e.publishNetwork(c, "disconnect", ep)
	}
	for _, m := range u.mounts {
		e.publishVolume(c, "unmount", m)
	}
}

func (e *Engine) publishNetwork(c *container, action string, ep runtime.Endpoint) {
	if e.cfg.Bus == nil {
		return
	}
	driver := ep.Driver
	if driver == "" {
		driver = "bridge"
	}
	e.cfg.Bus.Publish(runtime.Event{Type: "network", Action: action, ID: ep.NetworkID,
		Attrs: map[string]string{"container": c.id, "name": ep.Network, "type": driver}})
}

func (e *Engine) publishVolume(c *container, action string, m runtime.MountPoint) {
	if e.cfg.Bus == nil || m.Type != stack.MountVolume || m.Name == "" {
		return
	}
	attrs := map[string]string{"container": c.id, "driver": m.Driver}
	if action == "mount" {
		attrs["destination"], attrs["propagation"] = m.Target, m.Propagation
		attrs["read/write"] = strconv.FormatBool(!m.ReadOnly)
	}
	e.cfg.Bus.Publish(runtime.Event{Type: "volume", Action: action, ID: m.Name, Attrs: attrs})
}
