package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
)

// newLogger gives memberlist's log lines to slog, as debug messages: what it
// calls an error is a probe that failed, which is its daily work.
func newLogger(l *lines) *log.Logger { return log.New(l, "", 0) }

// lines takes memberlist's lines until it is closed: some of its goroutines
// outlive its Shutdown by a probe.
type lines struct {
	log *slog.Logger

	mu     sync.RWMutex
	closed bool // guarded by mu
}

func (w *lines) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

func (w *lines) Write(p []byte) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return len(p), nil
	}
	msg := bytes.TrimSpace(p)
	for _, level := range []string{"[DEBUG] ", "[INFO] ", "[WARN] ", "[ERR] "} {
		msg = bytes.TrimPrefix(msg, []byte(level))
	}
	msg = bytes.TrimPrefix(msg, []byte("memberlist: "))
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug(string(msg))
	}
	return len(p), nil
}
