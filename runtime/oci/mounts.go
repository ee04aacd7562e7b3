package oci

import (
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultShmSize of /dev/shm, bytes.
const DefaultShmSize = 64 << 20

// mounts are the default ones, less those whose place is asked for, then the
// container's, parents before children.
func (b *builder) mounts() error {
	c := b.in.Spec
	own := append([]Mount(nil), b.in.Mounts...)
	if c.Init {
		if b.in.InitPath == "" {
			return invalid("init: no init program on this host: install the package tini (tini-static)")
		}
		own = append(own, Mount{Type: "bind", Source: b.in.InitPath, Target: InitTarget, Options: []string{"bind", "ro"}})
	}
	taken := map[string]bool{}
	for _, m := range own {
		taken[path.Clean(m.Target)] = true
	}
	for _, m := range b.defaultMounts() {
		if !taken[m.Destination] && !(taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/")) {
			b.s.Mounts = append(b.s.Mounts, m)
		}
	}
	sort.SliceStable(own, func(i, j int) bool {
		return strings.Count(path.Clean(own[i].Target), "/") < strings.Count(path.Clean(own[j].Target), "/")
	})
	for _, m := range own {
		b.s.Mounts = append(b.s.Mounts, specs.Mount{Type: m.Type, Source: m.Source, Destination: m.Target, Options: m.Options})
		b.propagate(m.Propagation)
	}
	return nil
}

// propagate opens the root for what a mount asks for: a mount cannot receive
// or send what its parent does not.
func (b *builder) propagate(p string) {
	switch p {
	case "shared", "rshared":
		b.s.Linux.RootfsPropagation = "shared"
	case "slave", "rslave":
		if b.s.Linux.RootfsPropagation != "shared" {
			b.s.Linux.RootfsPropagation = "rslave"
		}
	}
}

func (b *builder) defaultMounts() []specs.Mount {
	c := b.in.Spec
	sys := []string{"nosuid", "noexec", "nodev", "ro"}
	cgroup := []string{"nosuid", "noexec", "nodev", "relatime", "ro"}
	if c.Privileged {
		sys[3], cgroup[4] = "rw", "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	return append(list, b.shm()...)
}

func (b *builder) shm() []specs.Mount {
	source := b.in.ShmPath
	switch b.in.Spec.IPCMode {
	case "none":
		return nil
	case "host":
		source = "/dev/shm"
	}
	if source != "" {
		return []specs.Mount{{Destination: "/dev/shm", Type: "bind", Source: source, Options: []string{"rbind", "nosuid", "noexec", "nodev"}}}
	}
	size := b.in.Spec.ShmSize
	if size <= 0 {
		size = DefaultShmSize
	}
	return []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}}}
}
