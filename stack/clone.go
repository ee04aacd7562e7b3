package stack

import (
	"maps"
	"slices"
)

// Clone returns a copy that shares no memory with s.
func (s Stack) Clone() Stack {
	s.Services = cloneMap(s.Services, Service.Clone)
	s.Networks = cloneMap(s.Networks, Network.Clone)
	s.Volumes = cloneMap(s.Volumes, Volume.Clone)
	s.Secrets = cloneMap(s.Secrets, Secret.Clone)
	s.Configs = cloneMap(s.Configs, Config.Clone)
	s.Files = slices.Clone(s.Files)
	s.EnvFiles = slices.Clone(s.EnvFiles)
	s.Disabled = slices.Clone(s.Disabled)
	return s
}

// Clone returns a copy that shares no memory with s.
func (s Service) Clone() Service {
	s.Container = s.Container.Clone()
	s.DependsOn = slices.Clone(s.DependsOn)
	s.Deploy = s.Deploy.Clone()
	s.Profiles = slices.Clone(s.Profiles)
	s.Links = slices.Clone(s.Links)
	s.Labels = maps.Clone(s.Labels)
	return s
}

// Clone returns a copy that shares no memory with d.
func (d Deploy) Clone() Deploy {
	d.Constraints = slices.Clone(d.Constraints)
	d.Preferences = slices.Clone(d.Preferences)
	d.Update = clonePtr(d.Update)
	d.Rollback = clonePtr(d.Rollback)
	return d
}

// Clone returns a copy that shares no memory with c.
func (c ContainerSpec) Clone() ContainerSpec {
	for _, list := range []*[]string{
		&c.Entrypoint, &c.Command, &c.Env, &c.GroupAdd, &c.CapAdd, &c.CapDrop, &c.SecurityOpt,
		&c.DeviceCgroupRules, &c.MaskedPaths, &c.ReadonlyPaths, &c.DNS, &c.DNSSearch, &c.DNSOptions,
		&c.ExtraHosts, &c.Expose, &c.VolumesFrom, &c.Platforms,
	} {
		*list = slices.Clone(*list)
	}
	for _, m := range []*map[string]string{&c.Labels, &c.Annotations, &c.Sysctls, &c.StorageOpt} {
		*m = maps.Clone(*m)
	}
	c.StopGrace = clonePtr(c.StopGrace)
	c.Devices = slices.Clone(c.Devices)
	c.Networks = cloneSlice(c.Networks, Attachment.Clone)
	c.Ports = slices.Clone(c.Ports)
	c.Mounts = cloneSlice(c.Mounts, Mount.Clone)
	c.Secrets = cloneSlice(c.Secrets, FileRef.Clone)
	c.Configs = cloneSlice(c.Configs, FileRef.Clone)
	c.Resources = c.Resources.Clone()
	c.Ulimits = slices.Clone(c.Ulimits)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	c.Log.Options = maps.Clone(c.Log.Options)
	c.PostStart = cloneSlice(c.PostStart, Hook.Clone)
	c.PreStop = cloneSlice(c.PreStop, Hook.Clone)
	return c
}

// Clone returns a copy that shares no memory with r.
func (r Resources) Clone() Resources {
	r.MemorySwappiness = clonePtr(r.MemorySwappiness)
	r.BlkioWeightDevice = slices.Clone(r.BlkioWeightDevice)
	r.BlkioReadBps = slices.Clone(r.BlkioReadBps)
	r.BlkioWriteBps = slices.Clone(r.BlkioWriteBps)
	r.BlkioReadIOps = slices.Clone(r.BlkioReadIOps)
	r.BlkioWriteIOps = slices.Clone(r.BlkioWriteIOps)
	r.Generic = maps.Clone(r.Generic)
	return r
}

// Clone returns a copy that shares no memory with h.
func (h Hook) Clone() Hook {
	h.Command = slices.Clone(h.Command)
	h.Env = slices.Clone(h.Env)
	return h
}

// Clone returns a copy that shares no memory with f.
func (f FileRef) Clone() FileRef {
	f.Mode = clonePtr(f.Mode)
	f.Data = slices.Clone(f.Data)
	return f
}

// Clone returns a copy that shares no memory with m.
func (m Mount) Clone() Mount {
	m.VolumeOpts = maps.Clone(m.VolumeOpts)
	m.VolumeLabels = maps.Clone(m.VolumeLabels)
	m.TmpfsOpts = slices.Clone(m.TmpfsOpts)
	return m
}

// Clone returns a copy that shares no memory with a.
func (a Attachment) Clone() Attachment {
	a.Aliases = slices.Clone(a.Aliases)
	a.LinkLocalIPs = slices.Clone(a.LinkLocalIPs)
	a.DriverOpts = maps.Clone(a.DriverOpts)
	return a
}

// Clone returns a copy that shares no memory with n.
func (n Network) Clone() Network {
	n.DriverOpts = maps.Clone(n.DriverOpts)
	n.EnableIPv4 = clonePtr(n.EnableIPv4)
	n.Subnets = cloneSlice(n.Subnets, func(s Subnet) Subnet {
		s.Aux = maps.Clone(s.Aux)
		return s
	})
	n.IPAMOpts = maps.Clone(n.IPAMOpts)
	n.Labels = maps.Clone(n.Labels)
	n.Virtual = slices.Clone(n.Virtual)
	n.Forward = maps.Clone(n.Forward)
	for domain, servers := range n.Forward {
		n.Forward[domain] = slices.Clone(servers)
	}
	return n
}

// Clone returns a copy that shares no memory with v.
func (v Volume) Clone() Volume {
	v.DriverOpts = maps.Clone(v.DriverOpts)
	v.Labels = maps.Clone(v.Labels)
	return v
}

// Clone returns a copy that shares no memory with s.
func (s Secret) Clone() Secret {
	s.Data = slices.Clone(s.Data)
	s.Labels = maps.Clone(s.Labels)
	return s
}

// Clone returns a copy that shares no memory with c.
func (c Config) Clone() Config {
	c.Data = slices.Clone(c.Data)
	c.Labels = maps.Clone(c.Labels)
	return c
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func cloneSlice[T any](list []T, clone func(T) T) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = clone(v)
	}
	return out
}

func cloneMap[T any](m map[string]T, clone func(T) T) map[string]T {
	if m == nil {
		return nil
	}
	out := make(map[string]T, len(m))
	for k, v := range m {
		out[k] = clone(v)
	}
	return out
}
