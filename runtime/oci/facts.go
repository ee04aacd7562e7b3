package oci

import (
	"os"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Facts are what the host can do.
type Facts struct {
	CgroupV2    bool
	Caps        []string // capabilities that containers may get, "CAP_..."
	SysResource bool     // limits may be raised above the hard limit
	Rlimits     map[string]Rlimit
	OOMScoreAdj int // of this process: the lowest that a container may get without SysResource

	SwapLimit   bool
	Swappiness  bool
	BlkioWeight bool
	CPURealtime bool
	OOMDisable  bool
	HugePages   bool

	AppArmor        bool
	AppArmorProfile string // loaded default profile; "" for none
	SELinux         bool

	MissingABIs []specs.Arch // of the seccomp profile; see missingABIs
}

// Rlimit is a limit of this process; math.MaxUint64 is unlimited.
type Rlimit struct{ Soft, Hard uint64 }

// HostFacts asks the host.
func HostFacts() Facts {
	f := Facts{Rlimits: map[string]Rlimit{}}
	var st unix.Statfs_t
	f.CgroupV2 = unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
	f.Caps = boundingCaps()
	for _, c := range f.Caps {
		f.SysResource = f.SysResource || c == "CAP_SYS_RESOURCE"
	}
	for name, id := range rlimits {
		var r unix.Rlimit
		if unix.Getrlimit(id, &r) == nil {
			f.Rlimits[name] = Rlimit{r.Cur, r.Max}
		}
	}
	if b, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		f.OOMScoreAdj, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if f.CgroupV2 {
		f.SwapLimit = swapInV2()
		f.BlkioWeight = true
	} else {
		f.SwapLimit = exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
		f.Swappiness = exists("/sys/fs/cgroup/memory/memory.swappiness")
		f.OOMDisable = exists("/sys/fs/cgroup/memory/memory.oom_control")
		f.BlkioWeight = exists("/sys/fs/cgroup/blkio/blkio.weight") || exists("/sys/fs/cgroup/blkio/blkio.bfq.weight")
		f.CPURealtime = exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
	}
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil {
		f.AppArmor = strings.HasPrefix(string(b), "Y")
	}
	f.SELinux = exists("/sys/fs/selinux/enforce")
	f.MissingABIs = missingABIs()
	return f
}

// boundingCaps are the capabilities in this process' bounding set.
func boundingCaps() []string {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return nil
	}
	defer file.Close()
	sets, err := cap.ParseProcPIDStatus(file)
	if err != nil {
		return nil
	}
	names, _ := cap.FromBitmap(sets[cap.Bounding])
	return names
}

// swapInV2 looks for swap accounting in this process' own group, since the
// root group has no such file.
func swapInV2() bool {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	group := strings.TrimPrefix(strings.TrimSpace(string(b)), "0::")
	if group == "/" {
		return exists("/proc/swaps")
	}
	return exists("/sys/fs/cgroup" + group + "/memory.swap.max")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
