package stack

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

func (v *validator) container(at string, svc Service) {
	c := svc.Container
	v.oneOf(at+".pull_policy", c.Pull, "", "always", "missing", "never")
	v.oneOf(at+".restart", c.Restart.Condition, "", "no", "on-failure", "always", "unless-stopped")
	v.oneOf(at+".uts", c.UTSMode, "", "host")
	v.oneOf(at+".userns_mode", c.UsernsMode, "", "host")
	v.oneOf(at+".cgroup", c.CgroupnsMode, "", "private", "host")
	if c.Restart.MaxAttempts < 0 || c.Restart.Delay < 0 || c.Restart.Window < 0 {
		v.add(at+".deploy.restart_policy", "max_attempts, delay and window cannot be negative")
	}
	if !strings.HasPrefix(c.IPCMode, "container:") && !strings.HasPrefix(c.IPCMode, "service:") {
		v.oneOf(at+".ipc", c.IPCMode, "", "private", "shareable", "host", "none")
	}
	if !strings.HasPrefix(c.PIDMode, "container:") && !strings.HasPrefix(c.PIDMode, "service:") {
		v.oneOf(at+".pid", c.PIDMode, "", "host")
	}
	if len(c.Hostname) > 64 || strings.ContainsAny(c.Hostname, " \t\n/") {
		v.add(at+".hostname", "%q is not a host name", c.Hostname)
	}
	if c.StopGrace != nil && *c.StopGrace < 0 {
		v.add(at+".stop_grace_period", "%s is negative", *c.StopGrace)
	}
	for i, e := range c.Env {
		if key, _, _ := strings.Cut(e, "="); key == "" || strings.ContainsRune(e, 0) {
			v.add(fmt.Sprintf("%s.environment[%d]", at, i), "a variable needs a name, and no NUL byte")
		}
	}
	v.mounts(at, c)
	v.files(at+".secrets", c.Secrets, func(key string) bool { _, ok := v.stack.Secrets[key]; return ok })
	v.files(at+".configs", c.Configs, func(key string) bool { _, ok := v.stack.Configs[key]; return ok })
	v.resources(at, c)
	v.healthcheck(at+".healthcheck", c.Healthcheck)
	v.networking(at, svc)
}

func (v *validator) oneOf(at, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		v.add(at, "%q is none of %s", value, strings.Trim(strings.Join(allowed, ", "), ", "))
	}
}

func (v *validator) mounts(at string, c ContainerSpec) {
	targets := map[string]bool{}
	for i, m := range c.Mounts {
		at := fmt.Sprintf("%s.volumes[%d]", at, i)
		if !path.IsAbs(m.Target) {
			v.add(at, "target %q has to be an absolute path in the container", m.Target)
		}
		if path.Clean(m.Target) == "/" {
			v.add(at, "nothing can be mounted on /")
		}
		if targets[path.Clean(m.Target)] {
			v.add(at, "something else is already mounted on %s", m.Target)
		}
		targets[path.Clean(m.Target)] = true
		switch m.Type {
		case MountVolume:
			if _, ok := v.stack.Volumes[m.Source]; !ok && m.Source != "" {
				v.add(at, "volume %s is not defined under volumes", m.Source)
			}
		case MountBind:
			if !path.IsAbs(m.Source) {
				v.add(at, "source %q has to be an absolute path", m.Source)
			}
			v.oneOf(at, m.Propagation, "", "private", "rprivate", "shared", "rshared", "slave", "rslave")
		case MountImage:
			if m.Source == "" {
				v.add(at, "an image mount needs an image as source")
			}
		case MountTmpfs:
			if m.TmpfsSize < 0 {
				v.add(at, "size cannot be negative")
			}
		default:
			v.add(at, "type %q is none of volume, bind, tmpfs, image", m.Type)
		}
		if strings.HasPrefix(path.Clean("/"+m.Subpath), "/..") || strings.Contains(m.Subpath, "..") {
			v.add(at, "subpath %q must stay inside", m.Subpath)
		}
	}
}

func (v *validator) files(at string, refs []FileRef, defined func(string) bool) {
	for i, r := range refs {
		at := fmt.Sprintf("%s[%d]", at, i)
		if !defined(r.Source) {
			v.add(at, "%s is not defined", r.Source)
		}
		if !path.IsAbs(r.Target) || path.Clean(r.Target) == "/" {
			v.add(at, "target %q has to be an absolute path of a file", r.Target)
		}
		if r.UID < 0 || r.GID < 0 {
			v.add(at, "uid and gid cannot be negative")
		}
		if r.Mode != nil && *r.Mode > 0o7777 {
			v.add(at, "mode %o is not a file mode", *r.Mode)
		}
	}
}

func (v *validator) resources(at string, c ContainerSpec) {
	r := c.Resources
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"cpus", r.NanoCPUs}, {"cpu_shares", r.CPUShares}, {"cpu_period", r.CPUPeriod}, {"mem_limit", r.Memory},
		{"mem_reservation", r.MemoryReservation}, {"shm_size", c.ShmSize}, {"deploy.resources.reservations.cpus", r.ReservedNanoCPUs},
		{"deploy.resources.reservations.memory", r.ReservedMemory}, {"cpu_rt_period", r.CPURealtimePeriod}, {"cpu_rt_runtime", r.CPURealtimeRuntime},
	} {
		if n.value < 0 {
			v.add(at+"."+n.key, "cannot be negative")
		}
	}
	if r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0) {
		v.add(at+".cpus", "cpus and cpu_period or cpu_quota exclude each other")
	}
	if r.Memory > 0 && r.Memory < 6<<20 {
		v.add(at+".mem_limit", "%d bytes: no container starts with less than 6 MiB", r.Memory)
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		v.add(at+".memswap_limit", "is memory and swap together, and less than mem_limit")
	}
	if r.MemorySwap > 0 && r.Memory == 0 {
		v.add(at+".memswap_limit", "needs mem_limit")
	}
	if r.Memory > 0 && r.MemoryReservation > r.Memory {
		v.add(at+".mem_reservation", "is more than mem_limit")
	}
	if s := r.MemorySwappiness; s != nil && (*s < 0 || *s > 100) {
		v.add(at+".mem_swappiness", "%d is not between 0 and 100", *s)
	}
	if w := r.BlkioWeight; w != 0 && (w < 10 || w > 1000) {
		v.add(at+".blkio_config.weight", "%d is not between 10 and 1000", w)
	}
	if r.PidsLimit < -1 {
		v.add(at+".pids_limit", "%d is less than -1", r.PidsLimit)
	}
	if c.OOMScoreAdj < -1000 || c.OOMScoreAdj > 1000 {
		v.add(at+".oom_score_adj", "%d is not between -1000 and 1000", c.OOMScoreAdj)
	}
	for _, u := range c.Ulimits {
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			v.add(at+".ulimits."+u.Name, "the soft limit %d is above the hard limit %d", u.Soft, u.Hard)
		}
	}
}

func (v *validator) healthcheck(at string, h *Healthcheck) {
	if h == nil {
		return
	}
	if len(h.Test) > 0 {
		switch {
		case !slices.Contains([]string{"NONE", "CMD", "CMD-SHELL"}, h.Test[0]):
			v.add(at+".test", "starts with %q, not with CMD, CMD-SHELL or NONE", h.Test[0])
		case h.Test[0] != "NONE" && len(h.Test) == 1:
			v.add(at+".test", "has no command")
		case h.Test[0] == "CMD-SHELL" && len(h.Test) > 2:
			v.add(at+".test", "CMD-SHELL takes one line of shell, got %d", len(h.Test)-1)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start_period", h.StartPeriod}, {"start_interval", h.StartInterval}} {
		if d.value < 0 || d.value > 0 && d.value < time.Millisecond {
			v.add(at+"."+d.key, "%s is less than 1ms", d.value)
		}
	}
	if h.Retries < 0 {
		v.add(at+".retries", "%d is less than 0", h.Retries)
	}
}
