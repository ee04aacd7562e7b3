package oci

import (
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCaps are the capabilities of an unprivileged container in the field.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func (b *builder) capabilities() error {
	c, have := b.in.Spec, b.in.Facts.Caps
	add, err := capNames(c.CapAdd)
	if err != nil {
		return err
	}
	drop, err := capNames(c.CapDrop)
	if err != nil {
		return err
	}
	want := defaultCaps
	switch {
	case c.Privileged:
		want = have
	case slices.Contains(add, "ALL"):
		want = have
	case slices.Contains(drop, "ALL"):
		want = nil
	}
	var got []string
	for _, name := range slices.Concat(want, add) {
		if name == "ALL" || slices.Contains(got, name) || (!c.Privileged && slices.Contains(drop, name)) {
			continue
		}
		if !slices.Contains(have, name) {
			if slices.Contains(add, name) {
				b.warn("capability " + name + " cannot be added: this host does not have it")
			}
			continue
		}
		got = append(got, name)
	}
	b.s.Process.Capabilities = capabilitySets(got, b.s.Process.User.UID)
	return nil
}

// capabilitySets leaves a user other than root without permitted ones, which
// is what execve makes of them.
func capabilitySets(caps []string, uid uint32) *specs.LinuxCapabilities {
	sets := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		sets.Effective, sets.Permitted = caps, caps
	}
	return sets
}

func capNames(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, n := range names {
		name := strings.ToUpper(n)
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if name == "CAP_ALL" {
			name = "ALL"
		}
		if name != "ALL" && !slices.Contains(cap.Known(), name) {
			return nil, invalid("unknown capability %q", n)
		}
		out = append(out, name)
	}
	return out, nil
}
