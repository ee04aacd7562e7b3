package oci

import (
	"os"
	"path"
	"path/filepath"
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
		f.SwapLimit = swapInV2("/sys/fs/cgroup", "/proc/self/cgroup", "/proc/swaps")
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

// swapInV2 tells whether groups can have a swap limit. The root group has no
// such file, and others have it only where their parent hands the memory
// controller down; so it asks this process' own group and those above, then
// those next to the root, and where no group has the controller yet, whether
// the kernel has swap at all.
func swapInV2(root, procSelfCgroup, procSwaps string) bool {
	const file = "memory.swap.max"
	b, _ := os.ReadFile(procSelfCgroup)
	_, own, _ := strings.Cut(strings.TrimSpace(string(b)), "::")
	for at := path.Clean("/" + own); at != "/"; at = path.Dir(at) {
		if exists(root + at + "/" + file) {
			return true
		}
	}
	if found, _ := filepath.Glob(root + "/*/" + file); len(found) > 0 {
		return true
	}
	limited, _ := filepath.Glob(root + "/*/memory.max")
	return len(limited) == 0 && exists(procSwaps)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
