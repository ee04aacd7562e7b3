package oci

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec makes the specification. Warnings are for people: limits that this host
// cannot apply.
func Spec(in Input) (*specs.Spec, []string, error) {
	b := &builder{in: in, s: base()}
	return b.build()
}

// Check finds what Spec would refuse or warn of before there is a root file
// system: all but users and groups.
func Check(in Input) ([]string, error) {
	b := &builder{in: in, s: base(), checkOnly: true}
	_, warnings, err := b.build()
	return warnings, err
}

func (b *builder) build() (*specs.Spec, []string, error) {
	in := b.in
	b.s.Root.Path = in.Rootfs
	b.s.Root.Readonly = in.Spec.ReadOnly
	b.s.Linux.CgroupsPath = in.CgroupPath
	for k, v := range in.Spec.Annotations {
		if b.s.Annotations == nil {
			b.s.Annotations = map[string]string{}
		}
		b.s.Annotations[k] = v
	}
	for _, step := range []func() error{
		b.namespaces, b.process, b.capabilities, b.security, b.mounts,
		b.devices, b.resources, b.sysctls, b.rlimits, b.oomScore, b.paths,
	} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	return b.s, b.warnings, nil
}

type builder struct {
	in        Input
	s         *specs.Spec
	warnings  []string
	checkOnly bool // no root file system yet
}

func (b *builder) warn(text string) { b.warnings = append(b.warnings, text) }

// specVersion is the oldest that has all we write: runtimes refuse versions
// that came after them (crun 1.8 knows 1.0 only).
const specVersion = "1.0.2"

func base() *specs.Spec {
	return &specs.Spec{
		Version: specVersion,
		Root:    &specs.Root{},
		Process: &specs.Process{},
		Linux:   &specs.Linux{Resources: &specs.LinuxResources{}},
	}
}

// namespaces: network, PID, IPC, UTS, cgroup and mount.
func (b *builder) namespaces() error {
	c := b.in.Spec
	if c.UsernsMode != "" && c.UsernsMode != "host" {
		return invalid("userns mode %q is not supported", c.UsernsMode)
	}
	add := func(kind specs.LinuxNamespaceType, host bool, path string) {
		if !host {
			b.s.Linux.Namespaces = append(b.s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	add(specs.MountNamespace, false, "")
	add(specs.NetworkNamespace, c.NetworkMode == "host", b.in.NetNS)
	add(specs.UTSNamespace, c.UTSMode == "host", "")
	add(specs.PIDNamespace, c.PIDMode == "host", b.in.PIDNS)
	add(specs.IPCNamespace, c.IPCMode == "host", b.in.IPCNS)
	add(specs.CgroupNamespace, b.hostCgroupNS(), "")
	if c.UTSMode != "host" {
		b.s.Hostname = b.in.Hostname
	}
	return nil
}

// hostCgroupNS: private is the default with cgroup v2 only, as in Docker.
func (b *builder) hostCgroupNS() bool {
	switch b.in.Spec.CgroupnsMode {
	case "host":
		return true
	case "private":
		return false
	}
	return !b.in.Facts.CgroupV2
}

func (b *builder) hasNamespace(kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(b.s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// The field's defaults: what an unprivileged container must not see or change.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func (b *builder) paths() error {
	c := b.in.Spec
	open := c.Privileged || slices.Contains(c.SecurityOpt, "systempaths=unconfined")
	if !open {
		b.s.Linux.MaskedPaths, b.s.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	if c.MaskedPaths != nil {
		b.s.Linux.MaskedPaths = c.MaskedPaths
	}
	if c.ReadonlyPaths != nil {
		b.s.Linux.ReadonlyPaths = c.ReadonlyPaths
	}
	return nil
}
