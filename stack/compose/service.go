package compose

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"github.com/dhow-project/dhow/stack"
)

// service translates one service.
func (l *load) service(p *types.Project, s types.ServiceConfig) stack.Service {
	path := "services." + s.Name
	l.refuseService(path, s)
	svc := stack.Service{
		Name:          s.Name,
		ContainerName: s.ContainerName,
		Profiles:      s.Profiles,
		Links:         s.Links,
		Build:         s.Build != nil,
		NoAttach:      s.Attach != nil && !*s.Attach,
		DependsOn:     l.dependsOn(p, s),
		Replicas:      1,
	}
	svc.Container = l.container(p, path, s)
	if s.Scale != nil {
		svc.Replicas = *s.Scale
	}
	if svc.Replicas < 0 {
		l.fail(path+".scale", "%d is less than 0", svc.Replicas)
	}
	l.deploy(path, s, &svc)
	l.extensions(path, s, &svc)
	return svc
}

// extensions honours dhow's own keys.
func (l *load) extensions(path string, s types.ServiceConfig, svc *stack.Service) {
	for _, key := range sortedKeys(s.Extensions) {
		switch {
		case key == "x-dhow-restart-unhealthy":
			on, err := strconv.ParseBool(fmt.Sprint(s.Extensions[key]))
			if err != nil {
				l.fail(path+"."+key, "has to be true or false")
			}
			svc.Container.Restart.Unhealthy = on
		case key == "x-dhow":
			l.own(path+"."+key, s.Extensions[key], svc)
		case strings.HasPrefix(key, "x-dhow-"):
			l.fail(path+"."+key, "unknown key; x-dhow- keys are dhow's own, of a service: x-dhow-restart-unhealthy")
		}
	}
}

// own reads the x-dhow section of a service.
func (l *load) own(path string, section any, svc *stack.Service) {
	keys, ok := section.(map[string]any)
	if !ok {
		l.fail(path, "has to be a mapping, such as {exclusive: true}")
		return
	}
	switches := map[string]*bool{"exclusive": &svc.Exclusive, "prefer_local": &svc.PreferLocal, "sticky": &svc.Sticky}
	for _, key := range sortedKeys(keys) {
		to := switches[key]
		if to == nil {
			l.fail(path+"."+key, "unknown key; x-dhow has %s", strings.Join(sortedKeys(switches), ", "))
			continue
		}
		on, err := strconv.ParseBool(fmt.Sprint(keys[key]))
		if err != nil {
			l.fail(path+"."+key, "has to be true or false")
		}
		*to = on
	}
}

func (l *load) dependsOn(p *types.Project, s types.ServiceConfig) []stack.Dependency {
	var out []stack.Dependency
	for _, name := range sortedKeys(s.DependsOn) {
		d := s.DependsOn[name]
		if _, active := p.Services[name]; !active && !d.Required {
			if _, known := p.DisabledServices[name]; known {
				continue
			}
		}
		condition := stack.Condition(d.Condition)
		if condition == "" {
			condition = stack.Started
		}
		out = append(out, stack.Dependency{Service: name, Condition: condition, Restart: d.Restart, Optional: !d.Required})
	}
	return out
}

// container translates what concerns one container.
func (l *load) container(p *types.Project, path string, s types.ServiceConfig) stack.ContainerSpec {
	c := stack.ContainerSpec{
		Image:             s.Image,
		Platform:          s.Platform,
		Pull:              l.pull(path, s.PullPolicy),
		Entrypoint:        s.Entrypoint,
		Command:           s.Command,
		Env:               l.environment(path, s.ContainerSpec),
		WorkingDir:        s.WorkingDir,
		User:              s.User,
		GroupAdd:          s.GroupAdd,
		Hostname:          s.Hostname,
		Domainname:        s.DomainName,
		Labels:            l.labels(path, s.ContainerSpec),
		Annotations:       copied(s.Annotations),
		TTY:               s.Tty,
		OpenStdin:         s.StdinOpen,
		StopSignal:        s.StopSignal,
		StopGrace:         (*time.Duration)(s.StopGracePeriod),
		Init:              s.Init != nil && *s.Init,
		ReadOnly:          s.ReadOnly,
		Privileged:        s.Privileged,
		CapAdd:            s.CapAdd,
		CapDrop:           s.CapDrop,
		SecurityOpt:       l.securityOpt(path, s.SecurityOpt),
		Devices:           l.devices(path, s),
		DeviceCgroupRules: s.DeviceCgroupRules,
		Sysctls:           copied(s.Sysctls),
		NetworkMode:       s.NetworkMode,
		PIDMode:           s.Pid,
		IPCMode:           s.Ipc,
		UTSMode:           s.Uts,
		UsernsMode:        s.UserNSMode,
		CgroupnsMode:      s.Cgroup,
		CgroupParent:      s.CgroupParent,
		DNS:               s.DNS,
		DNSSearch:         s.DNSSearch,
		DNSOptions:        s.DNSOpts,
		ExtraHosts:        sorted(s.ExtraHosts.AsList(":")),
		Networks:          l.attachments(path, s),
		Ports:             l.ports(path, s.Ports),
		Expose:            l.expose(path, s.Expose),
		MacAddress:        s.MacAddress,
		Mounts:            l.mounts(path, s),
		VolumesFrom:       volumesFrom(s.VolumesFrom),
		Secrets:           l.fileRefs(path+".secrets", "/run/secrets", secretRefs(s.Secrets)),
		Configs:           l.fileRefs(path+".configs", "/", configRefs(s.Configs)),
		Runtime:           s.Runtime,
		Resources:         l.resources(path, s),
		Ulimits:           ulimits(s.Ulimits),
		ShmSize:           int64(s.ShmSize),
		OOMScoreAdj:       int(s.OomScoreAdj),
		OOMKillDisable:    s.OomKillDisable,
		Restart:           l.restart(path, s.Restart),
		Healthcheck:       healthcheck(s.HealthCheck),
		Log:               l.logging(path, s.Logging),
		PostStart:         hooks(s.PostStart),
		PreStop:           hooks(s.PreStop),
	}
	if c.Image == "" && s.Build == nil && s.Provider == nil {
		l.fail(path, "has no image")
	}
	if c.Image != "" {
		if _, err := reference.ParseAnyReference(c.Image); err != nil {
			l.fail(path+".image", "%q is not an image reference: %s", c.Image, err)
		}
	}
	if c.NetworkMode == "default" {
		c.NetworkMode = "bridge"
	}
	return c
}

func (l *load) pull(path, policy string) string {
	switch policy {
	case "if_not_present":
		return "missing"
	case "", "always", "never", "missing":
		return policy
	case "build":
		l.fail(path+".pull_policy", "build is not honoured yet")
	default:
		l.fail(path+".pull_policy", "%s is not honoured yet; use always, missing or never", policy)
	}
	return ""
}

// securityOpt reads the file of a seccomp profile into the option.
func (l *load) securityOpt(path string, opts []string) []string {
	out := slices.Clone(opts)
	for i, o := range out {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			key, value, ok = strings.Cut(o, ":")
		}
		if !ok {
			continue
		}
		out[i] = key + "=" + value
		if key != "seccomp" || value == "unconfined" || value == "builtin" || strings.HasPrefix(strings.TrimSpace(value), "{") {
			continue
		}
		profile, err := readLimited(join(l.dir, value), maxContent)
		if err != nil {
			l.fail(fmt.Sprintf("%s.security_opt[%d]", path, i), "seccomp profile %s: %s", value, reason(err))
			continue
		}
		out[i] = "seccomp=" + string(profile)
	}
	return out
}

// devices translates device nodes and, from deploy, CDI names.
func (l *load) devices(path string, s types.ServiceConfig) []stack.Device {
	var out []stack.Device
	for i, d := range s.Devices {
		if strings.Trim(d.Permissions, "rwm") != "" {
			l.fail(fmt.Sprintf("%s.devices[%d]", path, i), "permissions %q are not of r, w, m", d.Permissions)
		}
		target := d.Target
		if !strings.HasPrefix(d.Source, "/") {
			target = "" // a CDI name has no place of its own
		}
		out = append(out, stack.Device{Source: d.Source, Target: target, Permissions: d.Permissions})
	}
	if s.Deploy == nil || s.Deploy.Resources.Reservations == nil {
		return out
	}
	for i, r := range s.Deploy.Resources.Reservations.Devices {
		if r.Driver != "cdi" || len(r.IDs) == 0 || r.Count != 0 || len(r.Options) > 0 {
			l.fail(fmt.Sprintf("%s.deploy.resources.reservations.devices[%d]", path, i), "is honoured only as driver: cdi with device_ids, such as vendor.com/class=name")
			continue
		}
		for _, id := range r.IDs {
			out = append(out, stack.Device{Source: id})
		}
	}
	return out
}

func (l *load) restart(path, policy string) stack.RestartPolicy {
	condition, count, limited := strings.Cut(policy, ":")
	r := stack.RestartPolicy{Condition: condition}
	if limited {
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 || condition != "on-failure" {
			l.fail(path+".restart", "%q is none of no, always, on-failure, on-failure:N, unless-stopped", policy)
			return stack.RestartPolicy{}
		}
		r.MaxAttempts = n
	}
	return r
}

func healthcheck(h *types.HealthCheckConfig) *stack.Healthcheck {
	if h == nil {
		return nil
	}
	if h.Disable {
		return &stack.Healthcheck{Test: []string{"NONE"}}
	}
	out := &stack.Healthcheck{
		Test:          h.Test,
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
	}
	if h.Retries != nil {
		out.Retries = int(min(*h.Retries, math.MaxInt32))
	}
	return out
}

// logOptions are those that the shim's log file knows.
var logOptions = []string{"max-size", "max-file"}

func (l *load) logging(path string, c *types.LoggingConfig) stack.LogConfig {
	if c == nil {
		return stack.LogConfig{}
	}
	if !slices.Contains([]string{"", "json-file", "local", "none"}, c.Driver) {
		l.fail(path+".logging.driver", "%s is not honoured; use json-file, local or none", c.Driver)
	}
	for _, key := range sortedKeys(c.Options) {
		if !slices.Contains(logOptions, key) {
			l.fail(path+".logging.options."+key, "is not honoured; only %s are", strings.Join(logOptions, " and "))
		}
	}
	return stack.LogConfig{Driver: c.Driver, Options: copied(c.Options)}
}

func hooks(list []types.ServiceHook) []stack.Hook {
	var out []stack.Hook
	for _, h := range list {
		out = append(out, stack.Hook{Command: h.Command, User: h.User, Privileged: h.Privileged, WorkingDir: h.WorkingDir, Env: envList(h.Environment)})
	}
	return out
}

func ulimits(m map[string]*types.UlimitsConfig) []stack.Ulimit {
	var out []stack.Ulimit
	for _, name := range sortedKeys(m) {
		u := m[name]
		if u == nil {
			continue
		}
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}
		out = append(out, stack.Ulimit{Name: name, Soft: int64(soft), Hard: int64(hard)})
	}
	return out
}

// volumesFrom marks services as such: a plain name is one of the same stack.
func volumesFrom(list []string) []string {
	var out []string
	for _, from := range list {
		if rest, ok := strings.CutPrefix(from, "container:"); ok {
			out = append(out, rest)
		} else {
			out = append(out, "service:"+from)
		}
	}
	return out
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

func sorted(list []string) []string {
	slices.Sort(list)
	if len(list) == 0 {
		return nil
	}
	return list
}
