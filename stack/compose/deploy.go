package compose

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/dhow-project/dhow/stack"
)

// deploy translates the deploy section over what the service says beside it.
func (l *load) deploy(path string, s types.ServiceConfig, svc *stack.Service) {
	d := s.Deploy
	if d == nil {
		return
	}
	path += ".deploy"
	if d.Mode != "replicated" {
		svc.Mode = stack.Mode(d.Mode)
	}
	if d.Replicas != nil {
		if s.Scale != nil && *s.Scale != *d.Replicas {
			l.fail(path+".replicas", "%d contradicts scale: %d", *d.Replicas, *s.Scale)
		}
		svc.Replicas = *d.Replicas
	}
	if (svc.Mode == stack.Global || svc.Mode == stack.GlobalJob) && (s.Scale != nil || d.Replicas != nil) {
		l.fail(path+".mode", "a %s service has one task on each node: it takes no replicas", d.Mode)
	}
	svc.Labels = copied(d.Labels)
	svc.Deploy = stack.Deploy{
		Constraints:        d.Placement.Constraints,
		MaxReplicasPerNode: int(min(d.Placement.MaxReplicas, math.MaxInt32)),
		EndpointMode:       d.EndpointMode,
		Update:             updateRule(d.UpdateConfig),
	}
	switch d.EndpointMode {
	case "", "vip", "dnsrr":
	default:
		l.fail(path+".endpoint_mode", "%q is neither vip nor dnsrr", d.EndpointMode)
	}
	for _, pref := range d.Placement.Preferences {
		svc.Deploy.Preferences = append(svc.Deploy.Preferences, pref.Spread)
	}
	svc.Deploy.Rollback = updateRule(d.RollbackConfig)
	l.updateRule(path+".update_config", svc.Deploy.Update, "pause", "continue", "rollback")
	l.updateRule(path+".rollback_config", svc.Deploy.Rollback, "pause", "continue")
	l.restartPolicy(path+".restart_policy", d.RestartPolicy, &svc.Container.Restart)
}

func updateRule(u *types.UpdateConfig) *stack.UpdateRule {
	if u == nil {
		return nil
	}
	r := &stack.UpdateRule{
		Parallelism:     1, // the Compose Deploy Specification's default
		Delay:           duration(&u.Delay),
		FailureAction:   u.FailureAction,
		Monitor:         duration(&u.Monitor),
		MaxFailureRatio: decimal(u.MaxFailureRatio),
		Order:           u.Order,
	}
	if u.Parallelism != nil {
		r.Parallelism = int(min(*u.Parallelism, math.MaxInt32))
	}
	return r
}

// updateRule checks a rule; actions are what may be done about failures, the default first.
func (l *load) updateRule(path string, r *stack.UpdateRule, actions ...string) {
	if r == nil {
		return
	}
	if r.FailureAction != "" && !slices.Contains(actions, r.FailureAction) {
		l.fail(path+".failure_action", "%q is none of %s", r.FailureAction, strings.Join(actions, ", "))
	}
	switch r.Order {
	case "", "stop-first", "start-first":
	default:
		l.fail(path+".order", "%q is neither start-first nor stop-first", r.Order)
	}
	if r.MaxFailureRatio < 0 || r.MaxFailureRatio > 1 {
		l.fail(path+".max_failure_ratio", "%v is not between 0 and 1", r.MaxFailureRatio)
	}
	if r.Delay < 0 || r.Monitor < 0 {
		l.fail(path, "delay and monitor cannot be negative")
	}
}

// restartPolicy puts deploy's policy over `restart`.
func (l *load) restartPolicy(path string, p *types.RestartPolicy, r *stack.RestartPolicy) {
	if p == nil {
		return
	}
	switch p.Condition {
	case "", "any", "always":
		r.Condition = "always"
	case "unless-stopped", "on-failure":
		r.Condition = p.Condition
	case "none", "no":
		r.Condition = "no"
	default:
		l.fail(path+".condition", "%q is none of any, on-failure, none", p.Condition)
	}
	r.MaxAttempts = 0
	if p.MaxAttempts != nil {
		r.MaxAttempts = int(min(*p.MaxAttempts, math.MaxInt32))
	}
	r.Delay, r.Window = duration(p.Delay), duration(p.Window)
}

// resources puts deploy.resources and the service's own keys together; they must not contradict each other.
func (l *load) resources(path string, s types.ServiceConfig) stack.Resources {
	r := stack.Resources{
		NanoCPUs:           nano(s.CPUS),
		CPUShares:          s.CPUShares,
		CPUPeriod:          s.CPUPeriod,
		CPUQuota:           s.CPUQuota,
		CPURealtimePeriod:  s.CPURTPeriod,
		CPURealtimeRuntime: s.CPURTRuntime,
		CpusetCpus:         s.CPUSet,
		Memory:             int64(s.MemLimit),
		MemorySwap:         int64(s.MemSwapLimit),
		MemoryReservation:  int64(s.MemReservation),
		PidsLimit:          s.PidsLimit,
	}
	if s.MemSwappiness != 0 || l.has(path+".mem_swappiness") {
		n := int64(s.MemSwappiness)
		r.MemorySwappiness = &n
	}
	l.blkio(s.BlkioConfig, &r)
	if s.Deploy == nil {
		return r
	}
	path += ".deploy.resources"
	if limits := s.Deploy.Resources.Limits; limits != nil {
		l.same(path+".limits.cpus", "cpus", &r.NanoCPUs, nano(limits.NanoCPUs.Value()))
		l.same(path+".limits.memory", "mem_limit", &r.Memory, int64(limits.MemoryBytes))
		l.same(path+".limits.pids", "pids_limit", &r.PidsLimit, limits.Pids)
	}
	if res := s.Deploy.Resources.Reservations; res != nil {
		r.ReservedNanoCPUs = nano(res.NanoCPUs.Value())
		r.ReservedMemory = int64(res.MemoryBytes)
		l.same(path+".reservations.memory", "mem_reservation", &r.MemoryReservation, int64(res.MemoryBytes))
		for i, g := range res.GenericResources {
			spec := g.DiscreteResourceSpec
			if spec == nil || spec.Kind == "" || spec.Value <= 0 {
				l.fail(fmt.Sprintf("%s.reservations.generic_resources[%d]", path, i), "needs discrete_resource_spec with kind and value")
				continue
			}
			if r.Generic == nil {
				r.Generic = map[string]int64{}
			}
			r.Generic[spec.Kind] += spec.Value
		}
	}
	return r
}

// same merges two ways to say one limit.
func (l *load) same(path, other string, value *int64, deploy int64) {
	switch {
	case deploy == 0:
	case *value != 0 && *value != deploy:
		l.fail(path, "contradicts %s", other)
	default:
		*value = deploy
	}
}

func (l *load) blkio(b *types.BlkioConfig, r *stack.Resources) {
	if b == nil {
		return
	}
	r.BlkioWeight = b.Weight
	for _, d := range b.WeightDevice {
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, stack.WeightDevice{Path: d.Path, Weight: d.Weight})
	}
	r.BlkioReadBps = throttle(b.DeviceReadBps)
	r.BlkioWriteBps = throttle(b.DeviceWriteBps)
	r.BlkioReadIOps = throttle(b.DeviceReadIOps)
	r.BlkioWriteIOps = throttle(b.DeviceWriteIOps)
}

func throttle(list []types.ThrottleDevice) []stack.ThrottleDevice {
	var out []stack.ThrottleDevice
	for _, d := range list {
		out = append(out, stack.ThrottleDevice{Path: d.Path, Rate: uint64(max(d.Rate, 0))})
	}
	return out
}

// has reports whether a key is written in some file, where compose-go cannot tell it from zero.
func (l *load) has(path string) bool {
	for _, src := range l.sources {
		if _, rest := src.locate(path); rest == "" {
			return true
		}
	}
	return false
}

// nano turns CPUs into billionths. compose-go reads a float32: its shortest
// decimal is what the user wrote.
func nano(cpus float32) int64 { return int64(math.Round(decimal(cpus) * 1e9)) }

func decimal(f float32) float64 {
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil || math.IsNaN(d) || math.IsInf(d, 0) {
		return -1 // refused by Validate
	}
	return d
}
