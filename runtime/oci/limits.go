package oci

import (
	"fmt"
	"math"
	"path"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rlimits by the name that people write.
var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// rlimits of the process. Without CAP_SYS_RESOURCE nothing can be raised above
// the hard limit that the daemon itself has.
func (b *builder) rlimits() error {
	for _, u := range b.in.Spec.Ulimits {
		if _, ok := rlimits[u.Name]; !ok {
			return invalid("unknown ulimit %q", u.Name)
		}
		soft, hard := limit(u.Soft), limit(u.Hard)
		if soft > hard {
			return invalid("ulimit %s: soft limit %d is above the hard limit %d", u.Name, u.Soft, u.Hard)
		}
		if have, ok := b.in.Facts.Rlimits[u.Name]; ok && hard > have.Hard && !b.in.Facts.SysResource {
			b.warn(fmt.Sprintf("ulimit %s: the hard limit stays at %d: this daemon may not raise it", u.Name, have.Hard))
			hard, soft = have.Hard, min(soft, have.Hard)
		}
		b.s.Process.Rlimits = append(b.s.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: soft, Hard: hard,
		})
	}
	return nil
}

func limit(v int64) uint64 {
	if v < 0 {
		return math.MaxUint64
	}
	return uint64(v)
}

func (b *builder) oomScore() error {
	want := b.in.Spec.OOMScoreAdj
	if want == 0 {
		return nil
	}
	if want < -1000 || want > 1000 {
		return invalid("oom_score_adj %d: want -1000 to 1000", want)
	}
	if lowest := b.in.Facts.OOMScoreAdj; want < lowest && !b.in.Facts.SysResource {
		b.warn(fmt.Sprintf("oom_score_adj stays at %d: this daemon may not lower it", lowest))
		want = lowest
	}
	b.s.Process.OOMScoreAdj = ptr(want)
	return nil
}

// ipcSysctls belong to the IPC namespace.
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true, "kernel.shmall": true,
	"kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
}

// sysctls: those of a namespace that the container has for itself.
func (b *builder) sysctls() error {
	c := b.in.Spec
	out := map[string]string{}
	ownNet := b.hasNamespace(specs.NetworkNamespace) && !strings.HasPrefix(c.NetworkMode, "container:")
	if ownNet {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	if c.Domainname != "" && c.UTSMode != "host" {
		out["kernel.domainname"] = c.Domainname
	}
	names := make([]string, 0, len(c.Sysctls))
	for name := range c.Sysctls {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if path.Clean(name) != name || strings.Contains(name, "..") {
			return invalid("sysctl %q", name)
		}
		switch {
		case strings.HasPrefix(name, "net."):
			if !ownNet {
				return invalid("sysctl %s: the container has no network namespace of its own", name)
			}
		case ipcSysctls[name] || strings.HasPrefix(name, "fs.mqueue."):
			if !b.hasNamespace(specs.IPCNamespace) || b.in.IPCNS != "" {
				return invalid("sysctl %s: the container has no IPC namespace of its own", name)
			}
		case name == "kernel.domainname" && c.UTSMode != "host":
		default:
			return invalid("sysctl %s is not a namespace's: it would change the host", name)
		}
		out[name] = c.Sysctls[name]
	}
	if len(out) > 0 {
		b.s.Linux.Sysctl = out
	}
	return nil
}
