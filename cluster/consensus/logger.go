package consensus

import (
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// logger gives raft's log to slog. Raft's informational messages are for those
// who look into raft: they become debug messages.
type logger struct {
	log  *slog.Logger
	name string
	args []any
}

func newLogger(l *slog.Logger) hclog.Logger { return &logger{log: l.With("part", "raft")} }

var levels = map[hclog.Level]slog.Level{
	hclog.Trace: slog.LevelDebug - 4,
	hclog.Debug: slog.LevelDebug - 2,
	hclog.Info:  slog.LevelDebug,
	hclog.Warn:  slog.LevelWarn,
	hclog.Error: slog.LevelError,
}

// common are errors to raft that are nothing out of the way in a cluster: a
// manager that is gone is said to be gone once, by those who judge that, and not
// several times a second for as long as it is.
var common = map[string]bool{
	"failed to heartbeat to":                     true,
	"failed to appendEntries to":                 true,
	"failed to contact":                          true,
	"failed to make requestVote RPC":             true,
	"failed to accept connection":                true, // closing
	"failed to decode incoming command":          true, // the other end is gone
	"failed to pipeline appendEntries":           true,
	"appendEntries rejected, sending older logs": true,
	"failed to get previous log":                 true, // of a manager that has just joined
}

func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	to := levels[level]
	if common[msg] {
		to = slog.LevelDebug
	}
	l.log.Log(context.Background(), to, msg, plain(args)...)
}

// plain takes hclog's formatted values apart, which slog does not know.
func plain(args []any) []any {
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = f[1:]
		}
	}
	return args
}

func (l *logger) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), levels[level])
}

func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }
func (l *logger) IsTrace() bool                 { return l.enabled(hclog.Trace) }
func (l *logger) IsDebug() bool                 { return l.enabled(hclog.Debug) }
func (l *logger) IsInfo() bool                  { return l.enabled(hclog.Info) }
func (l *logger) IsWarn() bool                  { return l.enabled(hclog.Warn) }
func (l *logger) IsError() bool                 { return l.enabled(hclog.Error) }
func (l *logger) ImpliedArgs() []any            { return l.args }
func (l *logger) Name() string                  { return l.name }
func (l *logger) SetLevel(hclog.Level)          {} // slog's handler decides
func (l *logger) GetLevel() hclog.Level         { return hclog.NoLevel }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{l.log.With(plain(args)...), l.name, append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l *logger) Named(name string) hclog.Logger      { return &logger{l.log, name, l.args} }
func (l *logger) ResetNamed(name string) hclog.Logger { return &logger{l.log, name, l.args} }

func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *logger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(opts).Writer()
}
