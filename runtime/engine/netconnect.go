package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// ConnectNetwork puts a container into one more network: at once when it runs,
// and at every later start. Being in the network already is ErrForbidden, as
// in Docker; a container without networks of its own is ErrInvalid.
func (e *Engine) ConnectNetwork(ctx context.Context, ref string, at stack.Attachment) error {
	c, err := e.rewired(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	list := c.attached()
	if slices.ContainsFunc(list, func(a stack.Attachment) bool { return a.Network == at.Network }) {
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", c.name(), at.Network, runtime.ErrForbidden)
	}
	r, _ := c.current()
	if r == nil {
		return e.rewire(c, append(list, at), nil)
	}
	// The kernel's part is done or undone as a whole, so a caller who leaves must not cut it.
	now, err := e.cfg.Networks.ConnectNetwork(context.WithoutCancel(ctx), c.id, at)
	if err != nil {
		return err
	}
	return e.rewire(c, append(list, at), now)
}

// DisconnectNetwork takes a container out of a network, given by its real
// name. One that is not in it is ErrForbidden, as in Docker. force is for
// endpoints of containers that are gone, of which there are none here.
func (e *Engine) DisconnectNetwork(ctx context.Context, ref, network string, _ bool) error {
	c, err := e.rewired(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	list := c.attached()
	i := slices.IndexFunc(list, func(a stack.Attachment) bool { return a.Network == network })
	if i < 0 {
		return fmt.Errorf("container %s is not connected to the network %s: %w", c.name(), network, runtime.ErrForbidden)
	}
	list = slices.Delete(list, i, i+1)
	r, _ := c.current()
	if r == nil {
		return e.rewire(c, list, nil)
	}
	now, err := e.cfg.Networks.DisconnectNetwork(context.WithoutCancel(ctx), c.id, network)
	if err != nil {
		return err
	}
	return e.rewire(c, list, now)
}

// rewired finds a container whose networks can be changed and takes its op lock.
func (e *Engine) rewired(ctx context.Context, ref string) (*container, error) {
	c, err := e.locked(ctx, ref)
	if err != nil {
		return nil, err
	}
	mode, _, _ := strings.Cut(c.spec().NetworkMode, ":")
	why := map[string]string{
		"host": "uses the host's network", "none": "was made without networks", "container": "uses another container's network",
	}[mode]
	if why == "" {
		return c, nil
	}
	defer c.op.unlock()
	return nil, fmt.Errorf("container %s %s: its networks cannot be changed, make it again with another network mode: %w", c.name(), why, runtime.ErrInvalid)
}

// attached are the networks that the container has.
func (c *container) attached() []stack.Attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rec.Rewired {
		return slices.Clone(c.rec.Spec.Networks)
	}
	return attachments(c.rec)
}

// rewire records the networks of a container, and for a running one how they
// came out. op is held.
func (e *Engine) rewire(c *container, list []stack.Attachment, now *overlaynet.Connected) error {
	c.mu.Lock()
	rec, st := c.rec, c.st
	c.mu.Unlock()
	rec.Spec = rec.Spec.Clone()
	rec.Spec.Networks, rec.Rewired = list, true
	var before []runtime.Endpoint
	if now != nil {
		if st.Connected != nil {
			before = st.Connected.Endpoints
		}
		st.Connected, st.Sandbox = now, sandboxOf(rec)
		st.Sandbox.Attachments = list // also none at all, until the next start
	}
	if err := e.store.saveRecord(rec); err != nil {
		return fmt.Errorf("networks of container %s: %w", rec.Name, err)
	}
	c.mu.Lock()
	c.rec = rec
	if now != nil {
		c.st.Connected, c.st.Sandbox = st.Connected, st.Sandbox
	}
	var err error
	if now != nil {
		err = e.saveLocked(c)
	}
	c.touchLocked()
	c.mu.Unlock()
	if now == nil {
		return nil
	}
	e.publishRewired(c, before, now.Endpoints)
	if err != nil {
		return fmt.Errorf("networks of container %s: %w", rec.Name, err)
	}
	if err := e.rewriteNetworkFiles(c, rec, before, now); err != nil {
		return fmt.Errorf("networks of container %s: %w", rec.Name, err)
	}
	return nil
}

func (e *Engine) publishRewired(c *container, before, now []runtime.Endpoint) {
	for _, ep := range minus(now, before) {
		e.publishNetwork(c, "connect", ep)
	}
	for _, ep := range minus(before, now) {
		e.publishNetwork(c, "disconnect", ep)
	}
}

// minus are the endpoints of a in networks that b is not in.
func minus(a, b []runtime.Endpoint) []runtime.Endpoint {
	var out []runtime.Endpoint
	for _, ep := range a {
		if !slices.ContainsFunc(b, func(x runtime.Endpoint) bool { return x.NetworkID == ep.NetworkID && x.Network == ep.Network }) {
			out = append(out, ep)
		}
	}
	return out
}

// rewriteNetworkFiles follows a change of networks in the files that the
// container sees. They are written in place: they are bind mounts. What the
// container itself put into hosts stays.
func (e *Engine) rewriteNetworkFiles(c *container, rec record, before []runtime.Endpoint, now *overlaynet.Connected) error {
	b := &bundle{e: e, c: c, rec: rec, dir: e.bundleDir(c.id), net: now}
	if err := os.WriteFile(filepath.Join(b.dir, "resolv.conf"), []byte(b.resolvConf()), 0o644); err != nil {
		return err
	}
	path := filepath.Join(b.dir, "hosts")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := withoutAddresses(string(text), minus(before, now.Endpoints))
	for _, ep := range minus(now.Endpoints, before) {
		lines += b.ownHosts(ep)
	}
	return os.WriteFile(path, []byte(lines), 0o644)
}

// withoutAddresses drops the lines of a hosts file that name one of the endpoints' addresses.
func withoutAddresses(text string, gone []runtime.Endpoint) string {
	drop := map[string]bool{}
	for _, ep := range gone {
		for _, a := range []string{ep.IPv4, ep.IPv6} {
			addr, _, _ := strings.Cut(a, "/")
			drop[addr] = true
		}
	}
	var w strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 && drop[f[0]] {
			continue
		}
		w.WriteString(line)
	}
	return w.String()
}
