package stack

import (
	"fmt"
	"strings"
)

// Beside says why a second task of a slot cannot run beside the first, so that
// the first has to stop before the second starts: "" when it can. With elsewhere
// the second one is on another node, where what the first holds of its own node
// is free. A volume that several replicas write to anyway stops nobody.
func (s Service) Beside(elsewhere bool) string {
	switch shares := s.Shares(); {
	case s.Mode == ReplicatedJob || s.Mode == GlobalJob:
		return "it is a job"
	case s.Exclusive:
		return "it is exclusive"
	case s.ContainerName != "":
		return "its container has the name " + s.ContainerName
	case len(shares) > 0:
		return "it shares namespaces or volumes with " + strings.Join(shares, ", ")
	}
	if s.Mode == Global || s.Replicas <= 1 {
		if m := s.Container.writes(); m != "" {
			return "it alone writes to " + m
		}
	}
	if a := s.Container.fixedAddress(); a != "" {
		return "it has the address " + a
	}
	if elsewhere {
		return ""
	}
	if s.Container.NetworkMode == "host" {
		return "it is in the host's network"
	}
	for _, p := range s.Container.Ports { // others take turns at theirs
		if p.Mode == "host" && p.HostPort != 0 && p.HostPortEnd <= p.HostPort {
			return fmt.Sprintf("it has port %d of its node", p.HostPort)
		}
	}
	return ""
}

// writes returns the first volume or host path that may hold data that must
// have one writer. What the system keeps under /run and the like is no data.
func (c ContainerSpec) writes() string {
	for _, m := range c.Mounts {
		switch {
		case m.ReadOnly || m.Source == "":
		case m.Type == MountVolume:
			return "volume " + m.Source
		case m.Type == MountBind && !systemPath(m.Source):
			return m.Source
		}
	}
	return ""
}

func systemPath(p string) bool {
	for _, dir := range []string{"/run", "/var/run", "/dev", "/proc", "/sys"} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

func (c ContainerSpec) fixedAddress() string {
	if c.MacAddress != "" {
		return c.MacAddress
	}
	for _, a := range c.Networks {
		for _, fixed := range []string{a.IPv4, a.IPv6, a.MacAddress} {
			if fixed != "" {
				return fixed
			}
		}
	}
	return ""
}
