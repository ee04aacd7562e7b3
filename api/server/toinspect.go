package server

import (
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// inspectResponse is the answer of GET /containers/{id}/json with the fields
// that clients up to API 1.51 read.
type inspectResponse struct {
	container.InspectResponse
	Config          *inspectConfig
	HostConfig      *inspectHostConfig
	NetworkSettings *inspectNetworks
}

type inspectConfig struct {
	*container.Config
	MacAddress string `json:",omitempty"`
}

type inspectHostConfig struct {
	*container.HostConfig
	KernelMemory    int64 `json:",omitempty"`
	KernelMemoryTCP int64 `json:",omitempty"`
}

// inspectNetworks adds what Docker showed of the default network until 1.51.
type inspectNetworks struct {
	container.NetworkSettings
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
}

// toInspect is the reverse of toSpec: what docker inspect says about c.
func toInspect(c *runtime.Container) *inspectResponse {
	cfg := fromConfig(c)
	out := &inspectResponse{
		Config:          &inspectConfig{Config: cfg, MacAddress: c.Spec.MacAddress},
		HostConfig:      &inspectHostConfig{HostConfig: fromHost(&c.Spec)},
		NetworkSettings: fromNetworks(c),
	}
	argv := append(append([]string{}, cfg.Entrypoint...), cfg.Cmd...)
	if len(argv) == 0 {
		argv = []string{""}
	}
	out.InspectResponse = container.InspectResponse{
		ID: c.ID, Name: "/" + c.Name, Created: stamp(c.Created), Path: argv[0], Args: argv[1:],
		State: fromState(&c.State), Image: c.ImageID, Driver: c.Driver, Platform: "linux",
		ResolvConfPath: c.ResolvConfPath, HostnamePath: c.HostnamePath, HostsPath: c.HostsPath, LogPath: c.LogPath,
		RestartCount: c.RestartCount, ExecIDs: c.ExecIDs, Mounts: fromMountPoints(c.Mounts),
	}
	return out
}

// stamp is a time as Docker writes it; the zero time is the year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func fromState(s *runtime.State) *container.State {
	out := &container.State{
		Status:  container.ContainerState(s.Status),
		Running: s.Status == runtime.Running || s.Status == runtime.Paused || s.Status == runtime.Restarting,
		Paused:  s.Status == runtime.Paused, Restarting: s.Status == runtime.Restarting, Dead: s.Status == runtime.Dead,
		OOMKilled: s.OOMKilled, Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt),
	}
	if h := s.Health; h != nil {
		out.Health = &container.Health{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
		for _, r := range h.Log {
			out.Health.Log = append(out.Health.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
		}
	}
	return out
}

// fromConfig shows what the container got: its own wishes over the image's.
func fromConfig(c *runtime.Container) *container.Config {
	s, img := &c.Spec, &c.Image
	entrypoint, cmd := commandOf(s, img)
	cfg := &container.Config{
		Hostname: s.Hostname, Domainname: s.Domainname, User: first(s.User, img.User),
		AttachStdin: s.AttachStdin, AttachStdout: s.AttachStdout, AttachStderr: s.AttachStderr,
		Tty: s.TTY, OpenStdin: s.OpenStdin, StdinOnce: s.StdinOnce,
		Env: mergeEnv(img.Env, s.Env), Cmd: cmd, Entrypoint: entrypoint, Image: s.Image,
		WorkingDir: first(s.WorkingDir, img.WorkingDir), Labels: mergeLabels(img.Labels, s.Labels),
		StopSignal: first(s.StopSignal, img.StopSignal), OnBuild: nil,
		ExposedPorts: exposed(append(append([]string{}, img.ExposedPorts...), s.Expose...)),
		Healthcheck:  fromHealthcheck(s.Healthcheck, img.Healthcheck),
	}
	if cfg.Hostname == "" && s.NetworkMode != "host" && len(c.ID) >= 12 {
		cfg.Hostname = c.ID[:12]
	}
	if s.StopGrace != nil {
		n := int(*s.StopGrace / time.Second)
		if *s.StopGrace >= forever {
			n = -1
		}
		cfg.StopTimeout = &n
	}
	for _, m := range s.Mounts {
		if m.Type == stack.MountVolume && m.Source == "" && simple(&m) && m.VolumeDriver == "" {
			cfg.Volumes = addTo(cfg.Volumes, m.Target)
		}
	}
	for _, target := range img.Volumes {
		cfg.Volumes = addTo(cfg.Volumes, target)
	}
	return cfg
}

func addTo(set map[string]struct{}, key string) map[string]struct{} {
	if set == nil {
		set = map[string]struct{}{}
	}
	set[key] = struct{}{}
	return set
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// commandOf is what runs: the image's entrypoint and command unless overridden.
func commandOf(s *stack.ContainerSpec, img *runtime.ImageConfig) (entrypoint, cmd []string) {
	entrypoint, cmd = s.Entrypoint, s.Command
	if cmd == nil && entrypoint == nil {
		cmd = img.Cmd
	}
	if entrypoint == nil {
		entrypoint = img.Entrypoint
	}
	if len(entrypoint) == 0 {
		entrypoint = nil
	}
	return entrypoint, cmd
}

func mergeEnv(image, own []string) []string {
	out := []string{}
	at := map[string]int{}
	for _, kv := range append(append([]string{}, image...), own...) {
		key, _, set := strings.Cut(kv, "=")
		i, seen := at[key]
		switch {
		case seen && set:
			out[i] = kv
		case seen:
			out[i] = "" // removed below
		case set:
			at[key] = len(out)
			out = append(out, kv)
		}
	}
	kept := out[:0]
	for _, kv := range out {
		if kv != "" {
			kept = append(kept, kv)
		}
	}
	return kept
}

func mergeLabels(image, own map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range image {
		out[k] = v
	}
	for k, v := range own {
		out[k] = v
	}
	return out
}

// exposed expands "80/tcp" and "8000-8010/udp".
func exposed(list []string) network.PortSet {
	var out network.PortSet
	for _, s := range list {
		r, err := network.ParsePortRange(s)
		if err != nil {
			continue
		}
		for p := range r.All() {
			if out == nil {
				out = network.PortSet{}
			}
			out[p] = struct{}{}
		}
	}
	return out
}

func fromHealthcheck(own *stack.Healthcheck, img *runtime.ImageHealthcheck) *container.HealthConfig {
	switch {
	case own == nil && img == nil:
		return nil
	case own == nil:
		own = &stack.Healthcheck{}
	}
	h := &container.HealthConfig{Test: own.Test, Interval: own.Interval, Timeout: own.Timeout,
		StartPeriod: own.StartPeriod, StartInterval: own.StartInterval, Retries: own.Retries}
	if img == nil {
		return h
	}
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	for _, d := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&h.Interval, img.Interval}, {&h.Timeout, img.Timeout}, {&h.StartPeriod, img.StartPeriod}, {&h.StartInterval, img.StartInterval}} {
		if *d.to == 0 {
			*d.to = d.from
		}
	}
	if h.Retries == 0 {
		h.Retries = img.Retries
	}
	return h
}

func fromHost(s *stack.ContainerSpec) *container.HostConfig {
	init, noOOM := s.Init, s.OOMKillDisable
	h := &container.HostConfig{
		LogConfig:   container.LogConfig{Type: first(s.Log.Driver, "json-file"), Config: s.Log.Options},
		NetworkMode: container.NetworkMode(networkModeOf(s)), PortBindings: fromPorts(s.Ports),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(first(s.Restart.Condition, "no")), MaximumRetryCount: s.Restart.MaxAttempts},
		AutoRemove:    s.AutoRemove, VolumesFrom: s.VolumesFrom, Annotations: s.Annotations,
		ConsoleSize: [2]uint{uint(s.ConsoleSize[0]), uint(s.ConsoleSize[1])},
		CapAdd:      s.CapAdd, CapDrop: s.CapDrop, CgroupnsMode: container.CgroupnsMode(s.CgroupnsMode),
		DNS: []netip.Addr{}, DNSOptions: list(s.DNSOptions), DNSSearch: list(s.DNSSearch), ExtraHosts: s.ExtraHosts, GroupAdd: s.GroupAdd,
		IpcMode: container.IpcMode(s.IPCMode), PidMode: container.PidMode(s.PIDMode), OomScoreAdj: s.OOMScoreAdj,
		Privileged: s.Privileged, PublishAllPorts: s.PublishAll, ReadonlyRootfs: s.ReadOnly, SecurityOpt: s.SecurityOpt,
		StorageOpt: s.StorageOpt, UTSMode: container.UTSMode(s.UTSMode), UsernsMode: container.UsernsMode(s.UsernsMode),
		ShmSize: s.ShmSize, Sysctls: s.Sysctls, Runtime: s.Runtime, Resources: fromResources(&s.Resources),
		MaskedPaths: s.MaskedPaths, ReadonlyPaths: s.ReadonlyPaths, Init: &init,
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	for _, a := range s.DNS {
		if ip, err := netip.ParseAddr(a); err == nil {
			h.DNS = append(h.DNS, ip)
		}
	}
	h.CgroupParent, h.DeviceCgroupRules, h.OomKillDisable = s.CgroupParent, s.DeviceCgroupRules, &noOOM
	h.Devices, h.DeviceRequests = fromDevices(s.Devices)
	h.Ulimits = []*container.Ulimit{}
	for _, u := range s.Ulimits {
		h.Ulimits = append(h.Ulimits, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	fromMounts(h, s.Mounts)
	return h
}

func networkModeOf(s *stack.ContainerSpec) string {
	if s.NetworkMode == "" && len(s.Networks) > 0 {
		return s.Networks[0].Network
	}
	return first(s.NetworkMode, defaultNetwork)
}

func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

func fromResources(r *stack.Resources) container.Resources {
	out := container.Resources{
		NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota,
		CPURealtimePeriod: r.CPURealtimePeriod, CPURealtimeRuntime: r.CPURealtimeRuntime,
		CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation, MemorySwappiness: r.MemorySwappiness,
		BlkioWeight: r.BlkioWeight, BlkioWeightDevice: []*blkiodev.WeightDevice{},
		BlkioDeviceReadBps: fromThrottle(r.BlkioReadBps), BlkioDeviceWriteBps: fromThrottle(r.BlkioWriteBps),
		BlkioDeviceReadIOps: fromThrottle(r.BlkioReadIOps), BlkioDeviceWriteIOps: fromThrottle(r.BlkioWriteIOps),
	}
	if r.PidsLimit != 0 {
		n := r.PidsLimit
		out.PidsLimit = &n
	}
	for _, w := range r.BlkioWeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, &blkiodev.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	return out
}

func fromThrottle(in []stack.ThrottleDevice) []*blkiodev.ThrottleDevice {
	out := []*blkiodev.ThrottleDevice{}
	for _, d := range in {
		out = append(out, &blkiodev.ThrottleDevice{Path: d.Path, Rate: d.Rate})
	}
	return out
}

func fromDevices(in []stack.Device) ([]container.DeviceMapping, []container.DeviceRequest) {
	devices := []container.DeviceMapping{}
	var cdi []string
	for _, d := range in {
		if strings.HasPrefix(d.Source, "/") {
			devices = append(devices, container.DeviceMapping{PathOnHost: d.Source, PathInContainer: d.Target, CgroupPermissions: d.Permissions})
			continue
		}
		cdi = append(cdi, d.Source)
	}
	if cdi == nil {
		return devices, nil
	}
	return devices, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: cdi}}
}

func fromPorts(ports []stack.Port) network.PortMap {
	out := network.PortMap{}
	for _, p := range ports {
		key, ok := network.PortFrom(p.ContainerPort, network.IPProtocol(first(p.Protocol, "tcp")))
		if !ok {
			continue
		}
		b := network.PortBinding{}
		if ip, err := netip.ParseAddr(p.HostIP); err == nil {
			b.HostIP = ip
		}
		if p.HostPort != 0 {
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		if p.HostPortEnd > p.HostPort {
			b.HostPort += "-" + strconv.Itoa(int(p.HostPortEnd))
		}
		out[key] = append(out[key], b)
	}
	return out
}

// fromMounts fills Binds, Tmpfs and Mounts; anonymous volumes that need no
// more than a target are in Config.Volumes.
func fromMounts(h *container.HostConfig, mounts []stack.Mount) {
	for i := range mounts {
		m := &mounts[i]
		switch {
		case m.Type == stack.MountTmpfs:
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = tmpfsOptions(m)
		case !simple(m) || m.VolumeDriver != "":
			h.Mounts = append(h.Mounts, fromMount(m))
		case m.Source != "":
			h.Binds = append(h.Binds, bindString(m))
		}
	}
}

// simple reports whether a bind string says everything about m.
func simple(m *stack.Mount) bool {
	if m.Type == stack.MountVolume {
		return m.Subpath == "" && len(m.VolumeOpts) == 0 && len(m.VolumeLabels) == 0 &&
			(m.Source != "" || !m.ReadOnly && !m.NoCopy && m.SELinux == "")
	}
	return m.Type == stack.MountBind && m.CreateHostPath && !m.NonRecursive && m.RecursiveReadOnly == ""
}

func bindString(m *stack.Mount) string {
	var opts []string
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	if m.SELinux != "" {
		opts = append(opts, m.SELinux)
	}
	if m.Propagation != "" {
		opts = append(opts, m.Propagation)
	}
	if m.NoCopy {
		opts = append(opts, "nocopy")
	}
	s := m.Source + ":" + m.Target
	if len(opts) > 0 {
		s += ":" + strings.Join(opts, ",")
	}
	return s
}

func tmpfsOptions(m *stack.Mount) string {
	var opts []string
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	if m.TmpfsSize > 0 {
		opts = append(opts, "size="+strconv.FormatInt(m.TmpfsSize, 10))
	}
	if m.TmpfsMode != 0 {
		opts = append(opts, "mode="+strconv.FormatUint(uint64(m.TmpfsMode), 8))
	}
	return strings.Join(append(opts, m.TmpfsOpts...), ",")
}

func fromMount(m *stack.Mount) mount.Mount {
	out := mount.Mount{Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	switch m.Type {
	case stack.MountBind:
		out.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(m.Propagation), NonRecursive: m.NonRecursive,
			CreateMountpoint: m.CreateHostPath, ReadOnlyNonRecursive: m.RecursiveReadOnly == "writable", ReadOnlyForceRecursive: m.RecursiveReadOnly == "readonly"}
	case stack.MountVolume:
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: m.NoCopy, Labels: m.VolumeLabels, Subpath: m.Subpath}
		if m.VolumeDriver != "" || len(m.VolumeOpts) > 0 {
			out.VolumeOptions.DriverConfig = &mount.Driver{Name: m.VolumeDriver, Options: m.VolumeOpts}
		}
	case stack.MountImage:
		out.ImageOptions = &mount.ImageOptions{Subpath: m.Subpath}
	}
	return out
}

func fromMountPoints(in []runtime.MountPoint) []container.MountPoint {
	out := []container.MountPoint{}
	for _, m := range in {
		out = append(out, container.MountPoint{Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target,
			Driver: m.Driver, RW: !m.ReadOnly, Propagation: mount.Propagation(m.Propagation)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Destination < out[j].Destination })
	return out
}
