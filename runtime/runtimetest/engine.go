package runtimetest

import (
	"context"
	"io"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Engine is everything an engine offers. Users declare the part they need;
// this full list is for the fake and the conformance suite.
type Engine interface {
	Create(ctx context.Context, name string, spec stack.ContainerSpec) (id string, warnings []string, err error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref, signal string, grace *time.Duration) error
	Restart(ctx context.Context, ref, signal string, grace *time.Duration) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, opt runtime.RemoveOptions) error
	Update(ctx context.Context, ref string, res stack.Resources, restart *stack.RestartPolicy) error
	Inspect(ctx context.Context, ref string) (*runtime.Container, error)
	List(ctx context.Context, f runtime.Filter) ([]runtime.Container, error)
	Wait(ctx context.Context, ref string, cond runtime.WaitCondition) (<-chan runtime.ExitStatus, error)
	Logs(ctx context.Context, ref string, opt runtime.LogOptions, emit func(runtime.LogEntry) error) error
	Attach(ctx context.Context, ref string, opt runtime.AttachOptions) (*runtime.Streams, error)
	Resize(ctx context.Context, ref string, rows, cols uint16) error
	Top(ctx context.Context, ref string, psArgs []string) (titles []string, rows [][]string, err error)
	Stats(ctx context.Context, ref string) (*runtime.Stats, error)
	ExecCreate(ctx context.Context, ref string, spec runtime.ExecSpec) (string, error)
	ExecStart(ctx context.Context, execID string, detach bool) (*runtime.Streams, error)
	ExecInspect(ctx context.Context, execID string) (*runtime.Exec, error)
	ExecResize(ctx context.Context, execID string, rows, cols uint16) error
	StatPath(ctx context.Context, ref, path string) (*runtime.PathStat, error)
	CopyFrom(ctx context.Context, ref, path string) (io.ReadCloser, *runtime.PathStat, error)
	CopyTo(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir bool) error
	Prune(ctx context.Context, labels map[string]string) (runtime.PruneReport, error)
}
