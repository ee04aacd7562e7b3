package health

import (
	"context"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// Monitor runs the probe of one container until it is stopped. A nil Monitor
// does nothing.
type Monitor struct {
	cfg     Config
	started time.Time
	probe   func(context.Context) runtime.HealthResult
	report  func(runtime.Health)

	mu      sync.Mutex
	health  runtime.Health // guarded by mu
	timer   *time.Timer    // guarded by mu
	early   bool           // guarded by mu; of the probe that the timer starts
	stopped bool           // guarded by mu
	paused  bool           // guarded by mu
	cancel  context.CancelFunc
	ctx     context.Context // of the running probe; ends with Stop
}

// Start begins to probe a container that started at the given time and whose
// health was have (zero: starting). probe must end within Config.Timeout after
// its context's end; report is called after each result, never concurrently
// and not after Stop has returned from a call outside of report.
func Start(cfg Config, started time.Time, have runtime.Health, probe func(context.Context) runtime.HealthResult, report func(runtime.Health)) *Monitor {
	if have.Status == "" {
		have.Status = Starting
	}
	m := &Monitor{cfg: cfg, started: started, probe: probe, report: report, health: have}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armLocked()
	return m
}

func (m *Monitor) armLocked() {
	d, early := Delay(m.health, time.Now(), m.started, m.cfg)
	m.early = early
	m.timer = time.AfterFunc(d, m.run)
}

func (m *Monitor) run() {
	m.mu.Lock()
	early, skip := m.early, m.stopped || m.paused
	if m.paused && !m.stopped {
		m.armLocked()
	}
	m.mu.Unlock()
	if skip {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timeout)
	result := m.probe(ctx)
	cancel()
	m.mu.Lock()
	if m.stopped || m.paused { // a probe of a frozen container says nothing
		if !m.stopped {
			m.armLocked()
		}
		m.mu.Unlock()
		return
	}
	m.health = Next(m.health, result, m.started, early, m.cfg)
	now := m.health
	m.mu.Unlock()
	m.report(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.armLocked()
	}
}

// Pause holds probes back while the container is frozen.
func (m *Monitor) Pause(paused bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = paused
}

// Stop ends probing, also a probe under way.
func (m *Monitor) Stop() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	m.timer.Stop()
	m.cancel()
}
