package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// newLogger gives memberlist's log lines to slog. What it calls an error is
// mostly a probe that failed, which is its daily work: nothing of it is more than a debug
// message but warnings about the configuration of the network.
func newLogger(l *slog.Logger) *log.Logger { return log.New(lines{l}, "", 0) }

type lines struct{ log *slog.Logger }

func (w lines) Write(p []byte) (int, error) {
	level, msg := slog.LevelDebug, bytes.TrimSpace(p)
	for _, prefix := range []struct {
		text  string
		level slog.Level
	}{{"[DEBUG] ", slog.LevelDebug - 2}, {"[INFO] ", slog.LevelDebug}, {"[WARN] ", slog.LevelDebug}, {"[ERR] ", slog.LevelDebug}} {
		if rest, ok := bytes.CutPrefix(msg, []byte(prefix.text)); ok {
			level, msg = prefix.level, rest
			break
		}
	}
	msg = bytes.TrimPrefix(msg, []byte("memberlist: "))
	if w.log.Enabled(context.Background(), level) {
		w.log.Log(context.Background(), level, string(msg))
	}
	return len(p), nil
}
