package oci

import (
	"encoding/json"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// profile is the JSON form of a seccomp profile that Docker reads: the
// runtime's own form and, over it, conditions by capability, architecture and
// kernel (https://docs.docker.com/engine/security/seccomp/).
type profile struct {
	DefaultAction    specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet  *uint                    `json:"defaultErrnoRet"`
	Architectures    []specs.Arch             `json:"architectures"`
	Flags            []specs.LinuxSeccompFlag `json:"flags"`
	ListenerPath     string                   `json:"listenerPath"`
	ListenerMetadata string                   `json:"listenerMetadata"`
	ArchMap          []struct {
		Architecture     specs.Arch   `json:"architecture"`
		SubArchitectures []specs.Arch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls []struct {
		specs.LinuxSyscall
		Name     string    `json:"name"`
		Includes condition `json:"includes"`
		Excludes condition `json:"excludes"`
	} `json:"syscalls"`
}

type condition struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

func (c condition) empty() bool {
	return len(c.Caps) == 0 && len(c.Arches) == 0 && c.MinKernel == ""
}

func parseProfile(data []byte, caps []string) (*specs.LinuxSeccomp, error) {
	var p profile
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, invalid("seccomp profile: %v", err)
	}
	if p.DefaultAction == "" {
		return nil, invalid("seccomp profile: no defaultAction")
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return nil, invalid("seccomp profile: both architectures and archMap")
	}
	out := &specs.LinuxSeccomp{
		DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures,
		Flags: p.Flags, ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata,
	}
	for _, m := range p.ArchMap {
		if m.Architecture == nativeArch() {
			out.Architectures = append([]specs.Arch{m.Architecture}, m.SubArchitectures...)
		}
	}
	for _, s := range p.Syscalls {
		if !s.Includes.holds(caps) || (!s.Excludes.empty() && s.Excludes.any(caps)) {
			continue
		}
		call := s.LinuxSyscall
		if s.Name != "" {
			call.Names = append(call.Names, s.Name)
		}
		out.Syscalls = append(out.Syscalls, call)
	}
	return out, nil
}

// holds: every part that is named is fulfilled.
func (c condition) holds(caps []string) bool {
	for _, name := range c.Caps {
		if !slices.Contains(caps, name) {
			return false
		}
	}
	if len(c.Arches) > 0 && !slices.Contains(c.Arches, goruntime.GOARCH) {
		return false
	}
	return c.MinKernel == "" || kernelAtLeast(c.MinKernel)
}

// any: one of the parts is fulfilled.
func (c condition) any(caps []string) bool {
	for _, name := range c.Caps {
		if slices.Contains(caps, name) {
			return true
		}
	}
	return slices.Contains(c.Arches, goruntime.GOARCH) || (c.MinKernel != "" && kernelAtLeast(c.MinKernel))
}

func nativeArch() specs.Arch {
	switch goruntime.GOARCH {
	case "amd64":
		return specs.ArchX86_64
	case "arm64":
		return specs.ArchAARCH64
	case "riscv64":
		return specs.ArchRISCV64
	case "s390x":
		return specs.ArchS390X
	case "ppc64le":
		return specs.ArchPPC64LE
	}
	return ""
}

func kernelAtLeast(want string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	have := strings.FieldsFunc(unix.ByteSliceToString(u.Release[:]), func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	for i, part := range strings.Split(want, ".") {
		w, _ := strconv.Atoi(part)
		h := 0
		if i < len(have) {
			h, _ = strconv.Atoi(have[i])
		}
		if h != w {
			return h > w
		}
	}
	return true
}
