package volumes

import (
	"path"
	"slices"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Inherit adds to own what a container takes over from others (volumes_from):
// own mounts win over inherited ones, and those over the image's. Of two
// inherited ones on one target the later counts, as in Docker.
func Inherit(own, inherited []stack.Mount) []stack.Mount {
	out := slices.Clone(own)
	mine := len(out)
	for _, m := range inherited {
		at := slices.IndexFunc(out, func(o stack.Mount) bool { return path.Clean(o.Target) == path.Clean(m.Target) })
		switch {
		case at < 0:
			out = append(out, m)
		case at >= mine || out[at].FromImage:
			out[at] = m
		}
	}
	return out
}

// Offered turns the mounts of a container, as they came out, back into mounts
// that another one can ask for. Memory belongs to one container and is left out.
func Offered(points []runtime.MountPoint, readOnly bool) []stack.Mount {
	var out []stack.Mount
	for _, p := range points {
		m := stack.Mount{Type: p.Type, Target: path.Clean(p.Target), ReadOnly: readOnly || p.ReadOnly, Subpath: p.Subpath}
		switch p.Type {
		case stack.MountVolume:
			m.Source, m.NoCopy = p.Name, true
		case stack.MountBind:
			m.Source, m.Propagation = p.Source, p.Propagation
		case stack.MountImage:
			m.Source = p.Name
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}
