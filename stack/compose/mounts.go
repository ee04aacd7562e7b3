package compose

import (
	"fmt"
	pathpkg "path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"
	"go.yaml.in/yaml/v4"

	"github.com/dhow-project/dhow/stack"
)

// mounts translates volumes and tmpfs.
func (l *load) mounts(path string, s types.ServiceConfig) []stack.Mount {
	var out []stack.Mount
	for i, v := range s.Volumes {
		m := stack.Mount{Type: stack.MountType(v.Type), Source: v.Source, Target: pathpkg.Clean(v.Target), ReadOnly: v.ReadOnly}
		if v.Target == "" {
			l.fail(fmt.Sprintf("%s.volumes[%d]", path, i), "lacks target")
			continue
		}
		if len(v.Target) > 1 && v.Target[1] == ':' && v.Source == "" {
			l.failItem(path+".volumes", i, func(n *yaml.Node) bool { return n.Value == v.Target }, "a name of one letter reads as a Windows drive; use the long form")
			continue
		}
		l.mountOptions(path, i, v, &m)
		out = append(out, m)
	}
	for i, t := range s.Tmpfs {
		m, err := tmpfs(t)
		if err != nil {
			l.fail(fmt.Sprintf("%s.tmpfs[%d]", path, i), "%s", err)
			continue
		}
		if slices.ContainsFunc(out, func(o stack.Mount) bool { return o.Target == m.Target }) {
			l.fail(fmt.Sprintf("%s.tmpfs[%d]", path, i), "something else is already mounted on %s", m.Target)
			continue
		}
		out = append(out, m)
	}
	l.shortVolumeOptions(path)
	return out
}

func (l *load) mountOptions(path string, i int, v types.ServiceVolumeConfig, m *stack.Mount) {
	refuse := func(format string, args ...any) {
		l.failItem(path+".volumes", i, matchMount(v.Target), format, args...)
	}
	for _, o := range []struct {
		section string
		given   bool
	}{
		{"bind", v.Bind != nil && *bindOf(v) != (bindOnly{})}, {"tmpfs", v.Tmpfs != nil && (v.Tmpfs.Size != 0 || v.Tmpfs.Mode != 0)},
		{"volume", v.Volume != nil && (v.Volume.NoCopy || v.Volume.Subpath != "" || len(v.Volume.Labels) > 0)}, {"image", v.Image != nil && v.Image.SubPath != ""},
	} {
		if o.given && o.section != v.Type {
			refuse("%s options do not fit a mount of type %s", o.section, v.Type)
		}
	}
	switch v.Type {
	case types.VolumeTypeBind:
		m.CreateHostPath = v.Bind == nil || bool(v.Bind.CreateHostPath)
		if v.Bind != nil {
			m.Propagation, m.SELinux = v.Bind.Propagation, v.Bind.SELinux
			switch v.Bind.Recursive {
			case "", "enabled":
			case "disabled":
				m.NonRecursive = true
			default:
				m.RecursiveReadOnly = v.Bind.Recursive
			}
		}
	case types.VolumeTypeVolume:
		if v.Volume != nil {
			m.NoCopy, m.Subpath, m.VolumeLabels = v.Volume.NoCopy, v.Volume.Subpath, copied(v.Volume.Labels)
		}
		if v.Bind != nil {
			m.SELinux = v.Bind.SELinux
		}
	case types.VolumeTypeTmpfs:
		if v.Source != "" {
			refuse("a tmpfs has no source")
		}
		if v.Tmpfs != nil {
			m.TmpfsSize, m.TmpfsMode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
		}
	case types.VolumeTypeImage:
		m.ReadOnly = true
		if v.Image != nil {
			m.Subpath = v.Image.SubPath
		}
	default:
		refuse("type %s is not honoured", v.Type)
	}
}

type bindOnly struct{ selinux, propagation, recursive string }

// bindOf are the options that only a bind mount has. The short form's z and Z
// fit a named volume too: data:/var/lib/mysql:Z.
func bindOf(v types.ServiceVolumeConfig) *bindOnly {
	b := v.Bind
	if v.Type == types.VolumeTypeVolume {
		return &bindOnly{"", b.Propagation, b.Recursive}
	}
	return &bindOnly{b.SELinux, b.Propagation, b.Recursive}
}

// tmpfs reads "/run:size=64m,mode=1777,exec".
func tmpfs(text string) (stack.Mount, error) {
	target, options, _ := strings.Cut(text, ":")
	m := stack.Mount{Type: stack.MountTmpfs, Target: pathpkg.Clean(target)}
	for _, o := range fields(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "size":
			size, err := units.RAMInBytes(value)
			if err != nil {
				return m, fmt.Errorf("size %q is not a size", value)
			}
			m.TmpfsSize = size
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 12)
			if err != nil {
				return m, fmt.Errorf("mode %q is not a mode", value)
			}
			m.TmpfsMode = uint32(mode)
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			m.TmpfsOpts = append(m.TmpfsOpts, o)
		}
	}
	return m, nil
}

// shortVolumeOptions finds what compose-go passes over in silence: options of
// the short form that nobody knows.
func (l *load) shortVolumeOptions(path string) {
	known := []string{"ro", "rw", "nocopy", "z", "Z", "private", "rprivate", "shared", "rshared", "slave", "rslave",
		"cached", "delegated", "consistent"} // consistency: a bind mount on Linux is always consistent
	for _, src := range l.sources {
		for _, doc := range src.docs {
			list := descend(doc, path+".volumes")
			if list == nil || list.Kind != yaml.SequenceNode {
				continue
			}
			for i, item := range list.Content {
				item = deref(item)
				parts := strings.Split(l.expand(src, item.Value), ":")
				if item.Kind != yaml.ScalarNode || len(parts) < 3 {
					continue
				}
				for _, o := range fields(parts[len(parts)-1], ",") {
					if !slices.Contains(known, o) {
						l.fail(fmt.Sprintf("%s.volumes[%d]", path, i), "unknown option %q", o)
					}
				}
			}
		}
	}
}

// volumeOptions are what a local volume knows.
var volumeOptions = []string{"type", "o", "device"}

// volumes translates the named volumes that services use.
func (l *load) volumes(p *types.Project) map[string]stack.Volume {
	out := map[string]stack.Volume{}
	for _, key := range sortedKeys(p.Volumes) {
		v := p.Volumes[key]
		path := "volumes." + key
		if v.Driver != "" && v.Driver != "local" {
			l.fail(path+".driver", "%s is not honoured; use local", v.Driver)
		}
		for _, opt := range sortedKeys(v.DriverOpts) {
			if !slices.Contains(volumeOptions, opt) {
				l.fail(path+".driver_opts."+opt, "is not honoured; a local volume knows %s", strings.Join(volumeOptions, ", "))
			}
		}
		if v.External {
			l.onlyExternal(path)
		}
		out[key] = stack.Volume{
			Name:       v.Name,
			Key:        key,
			External:   bool(v.External),
			Driver:     v.Driver,
			DriverOpts: copied(v.DriverOpts),
			Labels:     copied(v.Labels),
		}
	}
	return out
}
