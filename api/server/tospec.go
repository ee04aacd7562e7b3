package server

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// defaultNetwork is the network of a container that names none.
const defaultNetwork = "bridge"

// surroundings are what a create request is read against.
type surroundings struct {
	platform string
	image    *runtime.Image                              // nil when it is not known
	network  func(nameOrID string) (stack.Network, bool) // nil: names are taken as they are
}

// toSpec translates docker's create request. Every field that is set is
// honoured or refused by name; warnings go to the client.
func toSpec(req *createRequest, in surroundings) (spec stack.ContainerSpec, warnings []string, err error) {
	if err := checkRules(*req, createRule); err != nil {
		return spec, nil, err
	}
	if req.Image == "" {
		return spec, nil, invalid("Image: an image is required")
	}
	spec.Platform = in.platform
	if in.image != nil { // the one that was looked at, whatever its name means by the time of the start
		spec.ImageID = in.image.ID
	}
	if err := specOfConfig(&spec, req, in.image); err != nil {
		return spec, nil, err
	}
	if err := specOfHost(&spec, &req.HostConfig); err != nil {
		return spec, nil, err
	}
	if spec.Mounts, err = toMounts(req); err != nil {
		return spec, nil, err
	}
	if err := specOfNetworks(&spec, req, in.network); err != nil {
		return spec, nil, err
	}
	warnings, err = checkNetworkMode(&spec)
	return spec, warnings, err
}

func specOfConfig(spec *stack.ContainerSpec, req *createRequest, img *runtime.Image) (err error) {
	c := &req.Config
	spec.Image = c.Image
	spec.Hostname, spec.Domainname, spec.User = c.Hostname, c.Domainname, c.User
	spec.AttachStdin, spec.AttachStdout, spec.AttachStderr = c.AttachStdin, c.AttachStdout, c.AttachStderr
	spec.TTY, spec.OpenStdin, spec.StdinOnce = c.Tty, c.OpenStdin, c.StdinOnce
	spec.Env, spec.Labels, spec.WorkingDir = c.Env, c.Labels, c.WorkingDir
	spec.StopSignal, spec.MacAddress = c.StopSignal, req.MacAddress
	if c.StopTimeout != nil {
		d := seconds(*c.StopTimeout)
		spec.StopGrace = &d
	}
	for p := range c.ExposedPorts {
		if p.Num() == 0 {
			return invalid("ExposedPorts: invalid port %s", p)
		}
		spec.Expose = append(spec.Expose, p.String())
	}
	sort.Strings(spec.Expose)
	specOfCommand(spec, req.Cmd, req.Entrypoint, img)
	spec.Healthcheck, err = toHealthcheck(c.Healthcheck)
	return err
}

// specOfCommand keeps Docker's rules: an Entrypoint of one empty string means
// none, and then the image's Cmd goes too; an empty list means none, and the
// image's Cmd stays.
func specOfCommand(spec *stack.ContainerSpec, cmd, entrypoint []string, img *runtime.Image) {
	if len(cmd) > 0 {
		spec.Command = cmd
	}
	switch {
	case entrypoint == nil:
	case len(entrypoint) == 1 && entrypoint[0] == "":
		spec.Entrypoint = []string{}
	case len(entrypoint) == 0:
		spec.Entrypoint = []string{}
		if spec.Command == nil && img != nil {
			spec.Command = img.Config.Cmd
		}
	default:
		spec.Entrypoint = entrypoint
	}
}

func toHealthcheck(h *container.HealthConfig) (*stack.Healthcheck, error) {
	if h == nil {
		return nil, nil
	}
	for name, d := range map[string]time.Duration{"Interval": h.Interval, "Timeout": h.Timeout, "StartPeriod": h.StartPeriod, "StartInterval": h.StartInterval} {
		if d != 0 && d < container.MinimumDuration {
			return nil, invalid("Healthcheck.%s cannot be less than %s", name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return nil, invalid("Healthcheck.Retries cannot be negative")
	}
	return &stack.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}, nil
}

func specOfHost(spec *stack.ContainerSpec, h *hostConfig) (err error) {
	spec.AutoRemove, spec.VolumesFrom, spec.Annotations = h.AutoRemove, h.VolumesFrom, h.Annotations
	spec.CapAdd, spec.CapDrop, spec.SecurityOpt = h.CapAdd, h.CapDrop, h.SecurityOpt
	spec.Privileged, spec.PublishAll, spec.ReadOnly = h.Privileged, h.PublishAllPorts, h.ReadonlyRootfs
	spec.CgroupnsMode, spec.CgroupParent, spec.Runtime = string(h.CgroupnsMode), h.CgroupParent, h.Runtime
	spec.IPCMode, spec.PIDMode = string(h.IpcMode), string(h.PidMode)
	spec.UTSMode, spec.UsernsMode = string(h.UTSMode), string(h.UsernsMode)
	spec.DNSOptions, spec.DNSSearch, spec.ExtraHosts, spec.GroupAdd = h.DNSOptions, h.DNSSearch, h.ExtraHosts, h.GroupAdd
	spec.OOMScoreAdj, spec.ShmSize = h.OomScoreAdj, h.ShmSize
	spec.Sysctls, spec.StorageOpt = h.Sysctls, h.StorageOpt
	spec.MaskedPaths, spec.ReadonlyPaths = h.MaskedPaths, h.ReadonlyPaths
	spec.Init = h.Init != nil && *h.Init
	spec.OOMKillDisable = h.OomKillDisable != nil && *h.OomKillDisable
	spec.DeviceCgroupRules = h.DeviceCgroupRules
	spec.ConsoleSize = [2]uint16{uint16(h.ConsoleSize[0]), uint16(h.ConsoleSize[1])} //nolint:gosec // terminals are small
	for _, a := range h.DNS {
		spec.DNS = append(spec.DNS, a.String())
	}
	for _, u := range h.Ulimits {
		spec.Ulimits = append(spec.Ulimits, stack.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if err := checkHostModes(h); err != nil {
		return err
	}
	spec.Resources = toResources(&h.Resources)
	if spec.Devices, err = toDevices(h); err != nil {
		return err
	}
	if spec.Restart, err = toRestart(h.RestartPolicy); err != nil {
		return err
	}
	if h.AutoRemove && spec.Restart.Condition != "" {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	if spec.Log, err = toLog(h.LogConfig); err != nil {
		return err
	}
	spec.Ports, err = toPorts(h.PortBindings)
	return err
}

func checkHostModes(h *hostConfig) error {
	for _, c := range []struct {
		field string
		ok    bool
		value string
	}{
		{"Isolation", h.Isolation.IsDefault(), string(h.Isolation)},
		{"CgroupnsMode", h.CgroupnsMode.Valid(), string(h.CgroupnsMode)},
		{"IpcMode", h.IpcMode.Valid(), string(h.IpcMode)},
		{"PidMode", h.PidMode.Valid(), string(h.PidMode)},
		{"UTSMode", h.UTSMode.Valid(), string(h.UTSMode)},
		{"UsernsMode", h.UsernsMode.Valid(), string(h.UsernsMode)},
	} {
		if !c.ok {
			return invalid("HostConfig.%s: invalid value %q", c.field, c.value)
		}
	}
	if h.ShmSize < 0 {
		return invalid("HostConfig.ShmSize: SHM size can not be less than 0")
	}
	for _, extra := range h.ExtraHosts {
		if name, addr, ok := strings.Cut(extra, ":"); !ok || name == "" || addr == "" {
			return invalid("HostConfig.ExtraHosts: %q is not in the form host:address", extra)
		}
	}
	return nil
}

func toResources(r *container.Resources) stack.Resources {
	res := stack.Resources{
		NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota,
		CPURealtimePeriod: r.CPURealtimePeriod, CPURealtimeRuntime: r.CPURealtimeRuntime,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation,
		BlkioWeight: r.BlkioWeight,
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 { // -1 is the kernel's default
		res.MemorySwappiness = r.MemorySwappiness
	}
	if r.PidsLimit != nil {
		res.PidsLimit = max(*r.PidsLimit, -1)
	}
	for _, w := range r.BlkioWeightDevice {
		res.BlkioWeightDevice = append(res.BlkioWeightDevice, stack.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	res.BlkioReadBps, res.BlkioWriteBps = toThrottle(r.BlkioDeviceReadBps), toThrottle(r.BlkioDeviceWriteBps)
	res.BlkioReadIOps, res.BlkioWriteIOps = toThrottle(r.BlkioDeviceReadIOps), toThrottle(r.BlkioDeviceWriteIOps)
	return res
}

func toDevices(h *hostConfig) ([]stack.Device, error) {
	var out []stack.Device
	for _, d := range h.Devices {
		out = append(out, stack.Device{Source: d.PathOnHost, Target: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	for i, req := range h.DeviceRequests {
		if req.Driver != "cdi" {
			return nil, invalid("HostConfig.DeviceRequests[%d].Driver: could not select device driver %q: only cdi is offered", i, req.Driver)
		}
		for _, id := range req.DeviceIDs {
			out = append(out, stack.Device{Source: id})
		}
	}
	return out, nil
}

func toRestart(p container.RestartPolicy) (stack.RestartPolicy, error) {
	if err := container.ValidateRestartPolicy(p); err != nil {
		return stack.RestartPolicy{}, invalid("HostConfig.RestartPolicy: %v", err)
	}
	if p.IsNone() {
		return stack.RestartPolicy{}, nil
	}
	return stack.RestartPolicy{Condition: string(p.Name), MaxAttempts: p.MaximumRetryCount}, nil
}

func toLog(l container.LogConfig) (stack.LogConfig, error) {
	switch l.Type {
	case "", "json-file", "local", "none":
	default:
		return stack.LogConfig{}, invalid("HostConfig.LogConfig.Type: unknown log driver %q; there are json-file, local and none", l.Type)
	}
	for key := range l.Config {
		if key != "max-size" && key != "max-file" {
			return stack.LogConfig{}, invalid("HostConfig.LogConfig.Config: unknown log opt %q; there are max-size and max-file", key)
		}
	}
	log := stack.LogConfig{Driver: l.Type}
	if len(l.Config) > 0 {
		log.Options = l.Config
	}
	return log, nil
}

func toPorts(m network.PortMap) ([]stack.Port, error) {
	ports := make([]network.Port, 0, len(m))
	for p := range m {
		ports = append(ports, p)
	}
	sort.Slice(ports, func(i, j int) bool { return ports[i].String() < ports[j].String() })
	var out []stack.Port
	for _, p := range ports {
		bindings := m[p]
		if len(bindings) == 0 { // Docker up to API 1.52 takes an empty list as any free port
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			port := stack.Port{ContainerPort: p.Num(), Protocol: string(p.Proto())}
			if b.HostIP.IsValid() {
				port.HostIP = b.HostIP.String()
			}
			if err := hostPort(&port, b.HostPort); err != nil {
				return nil, fmt.Errorf("HostConfig.PortBindings[%s]: %w", p, err)
			}
			out = append(out, port)
		}
	}
	return out, nil
}

// hostPort reads "", "8080" or "8080-8090".
func hostPort(p *stack.Port, s string) error {
	if p.ContainerPort == 0 {
		return invalid("invalid container port")
	}
	if s == "" {
		return nil
	}
	first, last, isRange := strings.Cut(s, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return invalid("invalid host port %q", s)
	}
	p.HostPort = uint16(from)
	if !isRange {
		return nil
	}
	to, err := strconv.ParseUint(last, 10, 16)
	if err != nil || to < from {
		return invalid("invalid host port range %q", s)
	}
	if to > from {
		p.HostPortEnd = uint16(to)
	}
	return nil
}

// specOfNetworks puts the network of NetworkMode first, then the others by name.
func specOfNetworks(spec *stack.ContainerSpec, req *createRequest, lookup func(string) (stack.Network, bool)) error {
	mode := string(req.HostConfig.NetworkMode)
	if req.NetworkDisabled {
		mode = "none"
	}
	if mode == "" || mode == "default" {
		mode = defaultNetwork
	}
	spec.NetworkMode = mode
	endpoints := map[string]*network.EndpointSettings{}
	for ref, ep := range req.NetworkingConfig.EndpointsConfig {
		name := realName(ref, lookup)
		if ref == "default" {
			name = defaultNetwork
		}
		endpoints[name] = ep
	}
	if mode == "none" || mode == "host" || strings.HasPrefix(mode, "container:") {
		delete(endpoints, mode)
		if len(endpoints) > 0 {
			return invalid("NetworkingConfig.EndpointsConfig: a container with network mode %s cannot join networks", mode)
		}
		return nil
	}
	names := []string{realName(mode, lookup)}
	for name := range endpoints {
		if name != names[0] {
			names = append(names, name)
		}
	}
	sort.Strings(names[1:])
	for _, name := range names {
		spec.Networks = append(spec.Networks, toAttachment(name, endpoints[name]))
	}
	return nil
}

func realName(ref string, lookup func(string) (stack.Network, bool)) string {
	if lookup != nil {
		if n, ok := lookup(ref); ok {
			return n.Name
		}
	}
	return ref
}

func toAttachment(name string, ep *network.EndpointSettings) stack.Attachment {
	a := stack.Attachment{Network: name}
	if ep == nil {
		return a
	}
	a.Aliases, a.GwPriority = ep.Aliases, ep.GwPriority
	if len(ep.DriverOpts) > 0 {
		a.DriverOpts = ep.DriverOpts
	}
	if len(ep.MacAddress) > 0 {
		a.MacAddress = ep.MacAddress.String()
	}
	if ipam := ep.IPAMConfig; ipam != nil {
		a.IPv4, a.IPv6 = addr(ipam.IPv4Address), addr(ipam.IPv6Address)
		for _, ip := range ipam.LinkLocalIPs {
			a.LinkLocalIPs = append(a.LinkLocalIPs, ip.String())
		}
	}
	return a
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// checkNetworkMode refuses what contradicts the network mode.
func checkNetworkMode(spec *stack.ContainerSpec) (warnings []string, err error) {
	if spec.NetworkMode == "host" && (len(spec.Ports) > 0 || spec.PublishAll) {
		spec.Ports, spec.PublishAll = nil, false
		return []string{"Published ports are discarded when using host network mode"}, nil
	}
	if !strings.HasPrefix(spec.NetworkMode, "container:") {
		return nil, nil
	}
	for _, c := range []struct {
		set  bool
		what string
	}{
		{spec.Hostname != "", "hostname"}, {len(spec.DNS) > 0, "dns"}, {len(spec.ExtraHosts) > 0, "custom host-to-IP mapping"},
		{spec.MacAddress != "", "mac-address"}, {len(spec.Ports) > 0 || spec.PublishAll, "port publishing"},
		{len(spec.Expose) > 0, "port exposing"},
	} {
		if c.set {
			return nil, invalid("conflicting options: %s and the container type network mode", c.what)
		}
	}
	return nil, nil
}

func toThrottle(in []*blkiodev.ThrottleDevice) []stack.ThrottleDevice {
	var out []stack.ThrottleDevice
	for _, d := range in {
		out = append(out, stack.ThrottleDevice{Path: d.Path, Rate: d.Rate})
	}
	return out
}
