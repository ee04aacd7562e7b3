package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

// stats streams one reading a second, or gives one. Every reading carries the
// one before, so that clients can compute per cent; a single one therefore
// takes a second unless one-shot is asked for.
func (s *server) stats(w http.ResponseWriter, r *http.Request) error {
	stream, oneShot := flagOr(r, "stream", true), flag(r, "one-shot")
	if stream && oneShot {
		return invalid("cannot have stream=true and one-shot=true")
	}
	c, err := s.Engine.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	previous, err := s.sample(r.Context(), c)
	if err != nil {
		return err
	}
	if !stream && (oneShot || previous == nil) {
		return ok(w, toStats(c, previous, nil))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	enc, ctl := json.NewEncoder(w), http.NewResponseController(w)
	_ = ctl.Flush()
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
		}
		now, err := s.sample(r.Context(), c)
		if errors.Is(err, runtime.ErrNotFound) {
			return nil // removed: the stream ends
		}
		if err != nil {
			return err
		}
		if enc.Encode(toStats(c, now, previous)) != nil || ctl.Flush() != nil || !stream {
			return nil
		}
		previous = now
	}
}

// sample is nil when c does not run.
func (s *server) sample(ctx context.Context, c *runtime.Container) (*runtime.Stats, error) {
	st, err := s.Engine.Stats(ctx, c.ID)
	if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrConflict) {
		return nil, nil
	}
	return st, err
}

func toStats(c *runtime.Container, now, before *runtime.Stats) container.StatsResponse {
	out := container.StatsResponse{ID: c.ID, Name: "/" + c.Name, OSType: "linux"}
	if before != nil {
		out.PreRead, out.PreCPUStats = before.Time, toCPU(before)
	}
	if now == nil {
		return out
	}
	out.Read, out.CPUStats = now.Time, toCPU(now)
	out.MemoryStats = container.MemoryStats{Usage: now.Memory, Limit: now.MemoryLimit, Stats: now.MemoryStats, MaxUsage: now.MemoryStats["max_usage"]}
	out.PidsStats = container.PidsStats{Current: now.Pids, Limit: now.PidsLimit}
	out.BlkioStats = container.BlkioStats{IoServiceBytesRecursive: []container.BlkioStatEntry{
		{Op: "read", Value: now.BlockRead}, {Op: "write", Value: now.BlockWrite},
	}}
	for name, n := range now.Networks {
		if out.Networks == nil {
			out.Networks = map[string]container.NetworkStats{}
		}
		out.Networks[name] = container.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
	return out
}

func toCPU(s *runtime.Stats) container.CPUStats {
	return container.CPUStats{
		CPUUsage:       container.CPUUsage{TotalUsage: s.CPUNanos, UsageInUsermode: s.CPUUserNanos, UsageInKernelmode: s.CPUSystemNanos},
		SystemUsage:    s.SystemNanos,
		OnlineCPUs:     uint32(max(s.OnlineCPUs, 0)), //nolint:gosec // machines have few
		ThrottlingData: container.ThrottlingData{Periods: s.Periods, ThrottledPeriods: s.ThrottledPeriods, ThrottledTime: s.ThrottledNanos},
	}
}
