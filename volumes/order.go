package volumes

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// order checks mounts and sorts them so that outer ones come before those
// inside of them. Two mounts on one target are an error, except that a VOLUME
// of the image gives way to what the user asked for.
func order(mounts []stack.Mount) ([]stack.Mount, error) {
	at := make(map[string]int, len(mounts)) // target to index in out
	out := make([]stack.Mount, 0, len(mounts))
	for _, mt := range mounts {
		if err := checkMount(mt); err != nil {
			return nil, err
		}
		mt.Target = path.Clean(mt.Target)
		i, taken := at[mt.Target]
		switch {
		case !taken:
			at[mt.Target] = len(out)
			out = append(out, mt)
		case mt.FromImage:
		case out[i].FromImage:
			out[i] = mt
		default:
			return nil, fmt.Errorf("mount %s: two mounts on one target: %w", mt.Target, runtime.ErrInvalid)
		}
	}
	slices.SortStableFunc(out, func(a, b stack.Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return out, nil
}

func checkMount(mt stack.Mount) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("mount %s: %s: %w", mt.Target, fmt.Sprintf(format, args...), runtime.ErrInvalid)
	}
	switch {
	case !path.IsAbs(mt.Target) || strings.ContainsRune(mt.Target, 0):
		return bad("the target is not an absolute path")
	case path.Clean(mt.Target) == "/":
		return bad("the target is the container's root")
	}
	switch mt.Type {
	case stack.MountVolume:
		if mt.Propagation != "" && mt.Propagation != "rprivate" && mt.Propagation != "private" {
			return bad("propagation %q is for bind mounts only", mt.Propagation)
		}
		if mt.Source != "" {
			if err := CheckName(mt.Source); err != nil {
				return fmt.Errorf("mount %s: %w", mt.Target, err)
			}
		}
		if mt.Source == "" && mt.Subpath != "" {
			return bad("an anonymous volume has no subpath %q", mt.Subpath)
		}
	case stack.MountImage:
		if mt.Source == "" {
			return bad("no image")
		}
	case stack.MountBind, stack.MountTmpfs:
		if mt.Subpath != "" {
			return bad("subpath is for volumes and images only")
		}
	default:
		return bad("mount type %q cannot be had on Linux", mt.Type)
	}
	if path.IsAbs(mt.Subpath) {
		return bad("subpath %q is not relative", mt.Subpath)
	}
	return nil
}
