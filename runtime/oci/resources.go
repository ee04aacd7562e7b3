package oci

import (
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MinMemory is the smallest memory limit, bytes: a runtime cannot start in less.
const MinMemory = 6 << 20

func (b *builder) resources() error {
	devices := b.s.Linux.Resources.Devices
	res, warnings, err := Resources(b.in.Spec.Resources, b.in.Facts)
	if err != nil {
		return err
	}
	res.Devices = devices
	if b.in.Spec.OOMKillDisable {
		if !b.in.Facts.OOMDisable {
			b.warn("oom_kill_disable has no effect: this host cannot switch the OOM killer off")
		} else {
			if res.Memory == nil {
				res.Memory = &specs.LinuxMemory{}
			}
			res.Memory.DisableOOMKiller = ptr(true)
		}
	}
	b.s.Linux.Resources = res
	b.warnings = append(b.warnings, warnings...)
	return nil
}

// Resources turns limits into the runtime's terms, for a new container and for
// an update of a running one.
func Resources(r stack.Resources, f Facts) (*specs.LinuxResources, []string, error) {
	res := &specs.LinuxResources{}
	var warnings []string
	var err error
	if res.CPU, err = cpu(r, f); err != nil {
		return nil, nil, err
	}
	if res.Memory, warnings, err = memory(r, f); err != nil {
		return nil, nil, err
	}
	if r.PidsLimit != 0 {
		res.Pids = &specs.LinuxPids{Limit: ptr(max(r.PidsLimit, -1))}
	}
	blk, w, err := blockIO(r, f)
	if err != nil {
		return nil, nil, err
	}
	res.BlockIO = blk
	return res, append(warnings, w...), nil
}

func cpu(r stack.Resources, f Facts) (*specs.LinuxCPU, error) {
	c := specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.NanoCPUs < 0 || r.CPUShares < 0 || r.CPUPeriod < 0 {
		return nil, invalid("cpu limits: negative value")
	}
	if r.NanoCPUs > 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0) {
		return nil, invalid("cpu limits: cpus and cpu_quota or cpu_period exclude each other")
	}
	if r.CPUShares > 0 {
		c.Shares = ptr(uint64(r.CPUShares))
	}
	if r.NanoCPUs > 0 {
		const period = 100_000 // microseconds
		c.Period, c.Quota = ptr(uint64(period)), ptr(max(r.NanoCPUs*period/1e9, 1000))
	}
	if r.CPUPeriod > 0 {
		c.Period = ptr(uint64(r.CPUPeriod))
	}
	if r.CPUQuota != 0 {
		c.Quota = ptr(r.CPUQuota)
	}
	if r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 {
		if !f.CPURealtime {
			return nil, invalid("realtime cpu limits: this host does not have them")
		}
		c.RealtimePeriod, c.RealtimeRuntime = ptr(uint64(r.CPURealtimePeriod)), ptr(r.CPURealtimeRuntime)
	}
	if c == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return &c, nil
}

func memory(r stack.Resources, f Facts) (*specs.LinuxMemory, []string, error) {
	var m specs.LinuxMemory
	var warnings []string
	switch {
	case r.Memory < 0 || r.MemoryReservation < 0:
		return nil, nil, invalid("memory limit: negative value")
	case r.Memory > 0 && r.Memory < MinMemory:
		return nil, nil, invalid("memory limit of %d bytes: the least is 6 MiB", r.Memory)
	case r.MemorySwap > 0 && r.Memory == 0:
		return nil, nil, invalid("memory and swap limit: needs a memory limit as well")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return nil, nil, invalid("memory and swap limit of %d bytes is below the memory limit of %d", r.MemorySwap, r.Memory)
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return nil, nil, invalid("memory reservation of %d bytes is above the limit of %d", r.MemoryReservation, r.Memory)
	}
	if r.Memory > 0 {
		m.Limit = ptr(r.Memory)
	}
	if r.MemoryReservation > 0 {
		m.Reservation = ptr(r.MemoryReservation)
	}
	swap := r.MemorySwap
	if swap == 0 {
		swap = 2 * r.Memory
	}
	switch {
	case swap != 0 && f.SwapLimit:
		m.Swap = ptr(swap)
	case r.MemorySwap != 0:
		warnings = append(warnings, "the swap limit has no effect: this host does not account for swap")
	}
	if s := r.MemorySwappiness; s != nil && *s != -1 {
		if *s < 0 || *s > 100 {
			return nil, nil, invalid("memory swappiness %d: want 0 to 100", *s)
		}
		if f.Swappiness {
			m.Swappiness = ptr(uint64(*s))
		} else {
			warnings = append(warnings, "memory swappiness has no effect: this host does not have it per container")
		}
	}
	if m == (specs.LinuxMemory{}) {
		return nil, warnings, nil
	}
	return &m, warnings, nil
}

func blockIO(r stack.Resources, f Facts) (*specs.LinuxBlockIO, []string, error) {
	var b specs.LinuxBlockIO
	var warnings []string
	used := false
	if r.BlkioWeight > 0 || len(r.BlkioWeightDevice) > 0 {
		if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
			return nil, nil, invalid("blkio weight %d: want 10 to 1000", r.BlkioWeight)
		}
		if !f.BlkioWeight {
			warnings = append(warnings, "blkio weight has no effect: this host's I/O scheduler does not weigh")
		} else if err := weights(&b, r); err != nil {
			return nil, nil, err
		} else {
			used = true
		}
	}
	for _, t := range []struct {
		in  []stack.ThrottleDevice
		out *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.in {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return nil, nil, err
			}
			dev := specs.LinuxThrottleDevice{Rate: d.Rate}
			dev.Major, dev.Minor = major, minor
			*t.out = append(*t.out, dev)
			used = true
		}
	}
	if !used {
		return nil, warnings, nil
	}
	return &b, warnings, nil
}

func weights(b *specs.LinuxBlockIO, r stack.Resources) error {
	if r.BlkioWeight > 0 {
		b.Weight = ptr(r.BlkioWeight)
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := blockDevice(d.Path)
		if err != nil {
			return err
		}
		dev := specs.LinuxWeightDevice{Weight: ptr(d.Weight)}
		dev.Major, dev.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, dev)
	}
	return nil
}

func blockDevice(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("block device %s: %w: %w", path, err, runtime.ErrInvalid)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
