package server

import (
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"

	"github.com/dhow-project/dhow/stack"
)

// toMounts reads Binds, Tmpfs, Mounts and Volumes, in this order; two mounts
// on one target are refused.
func toMounts(req *createRequest) ([]stack.Mount, error) {
	var out []stack.Mount
	for _, b := range req.HostConfig.Binds {
		m, err := parseBind(b, req.HostConfig.VolumeDriver)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, target := range sortedKeys(req.HostConfig.Tmpfs) {
		m, err := parseTmpfs(target, req.HostConfig.Tmpfs[target])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for i := range req.HostConfig.Mounts {
		m, err := toMount(&req.HostConfig.Mounts[i])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	taken := map[string]bool{}
	for _, m := range out {
		if taken[m.Target] {
			return nil, invalid("Duplicate mount point: %s", m.Target)
		}
		taken[m.Target] = true
	}
	for _, target := range sortedKeys(req.Volumes) {
		m, err := parseBind(target, req.HostConfig.VolumeDriver)
		if err != nil {
			return nil, err
		}
		if !taken[m.Target] { // Docker lets a mount of any kind win over a VOLUME
			out = append(out, m)
		}
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// parseBind reads "TARGET", "SOURCE:TARGET" or "SOURCE:TARGET:OPTIONS".
func parseBind(s, driver string) (stack.Mount, error) {
	parts := strings.Split(s, ":")
	m := stack.Mount{Type: stack.MountVolume, VolumeDriver: driver}
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2, 3:
		m.Source, m.Target = parts[0], parts[1]
		if m.Source == "" {
			return m, invalid("invalid volume specification: %q", s)
		}
	default:
		return m, invalid("invalid volume specification: %q", s)
	}
	if path.IsAbs(m.Source) {
		m.Type, m.VolumeDriver, m.CreateHostPath = stack.MountBind, "", true
		m.Source = path.Clean(m.Source)
	} else if strings.Contains(m.Source, "/") {
		return m, invalid("invalid volume specification: %q: %s is neither an absolute path nor a volume's name", s, m.Source)
	}
	if !path.IsAbs(m.Target) {
		return m, invalid("invalid volume specification: %q: invalid mount path: %q mount path must be absolute", s, m.Target)
	}
	if m.Target = path.Clean(m.Target); m.Target == "/" {
		return m, invalid("invalid volume specification: %q: destination can't be '/'", s)
	}
	if len(parts) == 3 {
		return m, bindOptions(&m, s, parts[2])
	}
	return m, nil
}

func bindOptions(m *stack.Mount, spec, options string) error {
	for _, opt := range strings.Split(options, ",") {
		switch opt {
		case "", "rw", "cached", "delegated", "consistent": // the last three are for Docker Desktop
		case "ro":
			m.ReadOnly = true
		case "z", "Z":
			m.SELinux = opt
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			m.Propagation = opt
		case "nocopy":
			m.NoCopy = true
		default:
			return invalid("invalid volume specification: %q: invalid mode: %s", spec, opt)
		}
	}
	if m.Type == stack.MountBind && m.NoCopy || m.Type == stack.MountVolume && m.Propagation != "" {
		return invalid("invalid volume specification: %q: invalid mode: %s", spec, options)
	}
	return nil
}

// parseTmpfs reads the options of a Tmpfs entry: "size=64m,mode=1770,noexec".
func parseTmpfs(target, options string) (stack.Mount, error) {
	m := stack.Mount{Type: stack.MountTmpfs, Target: path.Clean(target)}
	if !path.IsAbs(target) || m.Target == "/" {
		return m, invalid("HostConfig.Tmpfs: invalid mount path: %q", target)
	}
	for _, opt := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "", "rw":
		case "ro":
			m.ReadOnly = true
		case "size":
			n, err := units.RAMInBytes(value)
			if err != nil || n <= 0 {
				m.TmpfsOpts = append(m.TmpfsOpts, opt) // "50%"
				continue
			}
			m.TmpfsSize = n
		case "mode":
			n, err := strconv.ParseUint(value, 8, 12)
			if err != nil {
				return m, invalid("HostConfig.Tmpfs[%s]: invalid mode %q", target, value)
			}
			m.TmpfsMode = uint32(n)
		default:
			m.TmpfsOpts = append(m.TmpfsOpts, opt)
		}
	}
	return m, nil
}

func toMount(in *mount.Mount) (stack.Mount, error) {
	m := stack.Mount{Source: in.Source, Target: path.Clean(in.Target), ReadOnly: in.ReadOnly}
	if !path.IsAbs(in.Target) || m.Target == "/" {
		return m, invalid("HostConfig.Mounts: invalid mount target %q: an absolute path other than / is needed", in.Target)
	}
	if err := mountOptionsFit(in); err != nil {
		return m, err
	}
	switch in.Type {
	case mount.TypeBind:
		if !path.IsAbs(in.Source) {
			return m, invalid("HostConfig.Mounts[%s]: invalid mount path: %q mount path must be absolute", in.Target, in.Source)
		}
		m.Type, m.Source = stack.MountBind, path.Clean(in.Source)
		return m, bindMount(&m, in.BindOptions)
	case mount.TypeVolume:
		m.Type = stack.MountVolume
		volumeMount(&m, in.VolumeOptions)
	case mount.TypeTmpfs:
		m.Type = stack.MountTmpfs
		if in.Source != "" {
			return m, invalid("HostConfig.Mounts[%s]: a tmpfs has no source", in.Target)
		}
		tmpfsMount(&m, in.TmpfsOptions)
	case mount.TypeImage:
		m.Type = stack.MountImage
		if in.ImageOptions != nil {
			m.Subpath = in.ImageOptions.Subpath
		}
	default:
		return m, invalid("HostConfig.Mounts[%s]: mount type %q is not supported", in.Target, in.Type)
	}
	return m, nil
}

// mountOptionsFit refuses options of another type than the mount's.
func mountOptionsFit(in *mount.Mount) error {
	for _, o := range []struct {
		set bool
		typ mount.Type
	}{
		{in.BindOptions != nil, mount.TypeBind}, {in.VolumeOptions != nil, mount.TypeVolume},
		{in.TmpfsOptions != nil, mount.TypeTmpfs}, {in.ImageOptions != nil, mount.TypeImage},
	} {
		if o.set && o.typ != in.Type {
			return invalid("HostConfig.Mounts[%s]: options of type %s on a mount of type %s", in.Target, o.typ, in.Type)
		}
	}
	return nil
}

func bindMount(m *stack.Mount, o *mount.BindOptions) error {
	if o == nil {
		return nil
	}
	if o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive {
		return invalid("HostConfig.Mounts[%s]: ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude one another", m.Target)
	}
	m.Propagation, m.NonRecursive, m.CreateHostPath = string(o.Propagation), o.NonRecursive, o.CreateMountpoint
	switch {
	case o.ReadOnlyNonRecursive:
		m.RecursiveReadOnly = "writable"
	case o.ReadOnlyForceRecursive:
		m.RecursiveReadOnly = "readonly"
	}
	return nil
}

func volumeMount(m *stack.Mount, o *mount.VolumeOptions) {
	if o == nil {
		return
	}
	m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
	if len(o.Labels) > 0 {
		m.VolumeLabels = o.Labels
	}
	if d := o.DriverConfig; d != nil {
		m.VolumeDriver = d.Name
		if len(d.Options) > 0 {
			m.VolumeOpts = d.Options
		}
	}
}

func tmpfsMount(m *stack.Mount, o *mount.TmpfsOptions) {
	if o == nil {
		return
	}
	m.TmpfsSize = o.SizeBytes
	m.TmpfsMode = unixMode(o.Mode)
	for _, opt := range o.Options {
		m.TmpfsOpts = append(m.TmpfsOpts, strings.Join(opt, "="))
	}
}

// unixMode is the permission bits of a mode that clients send either as Unix
// bits (01777 is 1023) or with Go's own bit for sticky and the like.
func unixMode(m fs.FileMode) uint32 {
	bits := uint32(m) & 0o7777
	for _, b := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSticky, 0o1000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSetuid, 0o4000}} {
		if m&b.mode != 0 {
			bits |= b.bit
		}
	}
	return bits
}
