// Package container resolves volumes_from: the mounts that a container takes
// over from others.
package container

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Lookup finds containers; the engine's Inspect fits.
type Lookup interface {
	Inspect(ctx context.Context, ref string) (*runtime.Container, error)
}

// Parse splits "container[:ro|rw]".
func Parse(from string) (ref string, readOnly bool, err error) {
	ref, mode, has := strings.Cut(from, ":")
	switch {
	case ref == "":
		return "", false, fmt.Errorf("volumes from %q: no container: %w", from, runtime.ErrInvalid)
	case !has || mode == "rw":
		return ref, false, nil
	case mode == "ro":
		return ref, true, nil
	}
	return "", false, fmt.Errorf("volumes from %q: mode %q is neither ro nor rw: %w", from, mode, runtime.ErrInvalid)
}

// Resolve returns own and, at targets that it does not name, the mounts of the
// containers in from; of two that have a target the later one gives it, as in
// Docker. Volumes of the image (FromImage) give way to inherited mounts.
func Resolve(ctx context.Context, own []stack.Mount, from []string, lookup Lookup) ([]stack.Mount, error) {
	if len(from) == 0 {
		return own, nil
	}
	inherited := map[string]stack.Mount{}
	var targets []string // in order of appearance
	for _, f := range from {
		ref, readOnly, err := Parse(f)
		if err != nil {
			return nil, err
		}
		c, err := lookup.Inspect(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("volumes from %s: %w", ref, err)
		}
		for _, m := range mountsOf(c) {
			m.ReadOnly = m.ReadOnly || readOnly
			if _, seen := inherited[m.Target]; !seen {
				targets = append(targets, m.Target)
			}
			inherited[m.Target] = m
		}
	}
	return merge(own, inherited, targets), nil
}

func merge(own []stack.Mount, inherited map[string]stack.Mount, targets []string) []stack.Mount {
	out := make([]stack.Mount, 0, len(own)+len(targets))
	taken := map[string]bool{}
	for _, m := range own {
		t := path.Clean(m.Target)
		if _, ok := inherited[t]; ok && m.FromImage {
			continue
		}
		taken[t] = true
		out = append(out, m)
	}
	for _, t := range targets {
		if !taken[t] {
			out = append(out, inherited[t])
		}
	}
	return out
}

// mountsOf turns the mounts of a container, as they came out, back into mounts
// that can be asked for. What the container's spec said in detail (subpath,
// propagation, tmpfs options) is kept.
func mountsOf(c *runtime.Container) []stack.Mount {
	asked := map[string]stack.Mount{}
	for _, m := range c.Spec.Mounts {
		asked[path.Clean(m.Target)] = m
	}
	var out []stack.Mount
	for _, p := range c.Mounts {
		target := path.Clean(p.Target)
		m := asked[target]
		if m.Type != p.Type {
			m = stack.Mount{Propagation: p.Propagation}
		}
		m.Type, m.Target, m.ReadOnly = p.Type, target, p.ReadOnly
		m.FromImage, m.CreateHostPath = false, false
		switch p.Type {
		case stack.MountVolume:
			m.Source, m.NoCopy, m.Propagation = p.Name, true, ""
			m.VolumeDriver, m.VolumeOpts, m.VolumeLabels = "", nil, nil
		case stack.MountBind:
			m.Source = p.Source
		case stack.MountImage:
			m.Source = p.Name
		}
		out = append(out, m)
	}
	return out
}
