package oci

import (
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
)

// security applies the security options, over the default profiles.
func (b *builder) security() error {
	c, f := b.in.Spec, b.in.Facts
	profile, apparmor := "", f.AppArmorProfile
	if c.Privileged {
		profile, apparmor = "unconfined", ""
	}
	for _, opt := range c.SecurityOpt {
		key, value, _ := strings.Cut(opt, "=")
		if !strings.Contains(opt, "=") && strings.Contains(opt, ":") {
			key, value, _ = strings.Cut(opt, ":")
		}
		switch key {
		case "no-new-privileges":
			b.s.Process.NoNewPrivileges = value == "" || value == "true"
		case "seccomp":
			profile = value
		case "apparmor":
			if !f.AppArmor && value != "unconfined" {
				return invalid("security option %q: this host has no AppArmor", opt)
			}
			apparmor = strings.TrimPrefix(value, "unconfined")
		case "label":
			if f.SELinux && value != "disable" {
				return invalid("security option %q: SELinux labels are not supported", opt)
			}
			if !f.SELinux && value != "disable" {
				b.warn("security option " + opt + " has no effect: this host has no SELinux")
			}
		case "systempaths":
			if value != "unconfined" {
				return invalid("security option %q: want systempaths=unconfined", opt)
			}
		default:
			return invalid("security option %q is not known", opt)
		}
	}
	b.s.Process.ApparmorProfile = apparmor
	return b.seccomp(profile)
}

func (b *builder) seccomp(profile string) (err error) {
	switch profile {
	case "unconfined":
	case "", "builtin":
		b.s.Linux.Seccomp = seccomp.DefaultProfile(b.s)
		b.s.Linux.Seccomp.Architectures = without(b.s.Linux.Seccomp.Architectures, b.in.Facts.MissingABIs)
	default:
		b.s.Linux.Seccomp, err = parseProfile([]byte(profile), b.s.Process.Capabilities.Bounding)
	}
	return err
}
