package agent

import (
	"context"
	"log/slog"
	goruntime "runtime"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Engine is what the agent needs of the engine.
type Engine interface {
	Create(ctx context.Context, name string, spec stack.ContainerSpec) (id string, warnings []string, err error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref, signal string, grace *time.Duration) error
	Restart(ctx context.Context, ref, signal string, grace *time.Duration) error
	// Serve says whether a container gets new requests; those it has go on.
	Serve(ctx context.Context, ref string, on bool) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, opt runtime.RemoveOptions) error
	Inspect(ctx context.Context, ref string) (*runtime.Container, error)
	List(ctx context.Context, f runtime.Filter) ([]runtime.Container, error)
}

// Images is what the agent needs of the image store.
type Images interface {
	Image(ctx context.Context, ref, platform string) (*runtime.Image, error)
	Pull(ctx context.Context, ref string, opt runtime.PullOptions) (*runtime.Image, error)
}

// Volumes makes the named volumes of a stack, and removes anonymous ones.
type Volumes interface {
	// Ensure makes the volume unless it exists; an external one has to exist.
	Ensure(ctx context.Context, v stack.Volume) error
	// Discard removes an anonymous volume. One that a container uses, one that
	// has a name of its own and one that is not there are left alone.
	Discard(ctx context.Context, name string) error
}

// Source is where tasks come from and statuses go to. Its first answer is
// complete: containers of tasks that it does not name are removed.
type Source interface {
	Assignments(node string) []stack.Assignment
	Changed() <-chan struct{}
	Report(ctx context.Context, reports []stack.TaskReport) error
}

// Events tells what happens to containers.
type Events interface {
	Subscribe(ctx context.Context, since, until time.Time) <-chan runtime.Event
}

// Config of an Agent.
type Config struct {
	Node    string // ID
	Cluster string // ID; only containers that carry it are ever touched
	Source  Source
	Engine  Engine
	Images  Images
	Volumes Volumes
	Events  Events
	Log     *slog.Logger

	Starts int // containers created and started at once; 0: twice the CPUs, at least 4
	Stops  int // containers stopped and removed at once, most of it waiting; 0: 64
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Starts == 0 {
		c.Starts = max(4, 2*goruntime.NumCPU())
	}
	if c.Stops == 0 {
		c.Stops = 64
	}
	return c
}

// Labels of a task's container beside Compose's own.
const (
	LabelTask    = "dhow.task"    // task ID
	LabelCluster = "dhow.cluster" // cluster ID
)
