package image

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// global hands what containerd says outside of any call to the first store's log.
var global sync.Once

// bridge makes a logger for containerd's libraries that writes to l. Their
// infos are our debugs: they report what the caller is told by an error anyway.
func bridge(l *slog.Logger) *log.Entry {
	r := logrus.New()
	r.SetOutput(io.Discard)
	r.SetLevel(logrus.WarnLevel)
	if l.Enabled(context.Background(), slog.LevelDebug) {
		r.SetLevel(logrus.InfoLevel)
	}
	r.AddHook(slogHook{l})
	e := logrus.NewEntry(r)
	global.Do(func() { log.L = e })
	return e
}

type slogHook struct{ log *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h slogHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.WarnLevel {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.log.LogAttrs(context.Background(), level, e.Message, attrs...)
	return nil
}
