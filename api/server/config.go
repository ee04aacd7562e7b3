package server

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
)

// Config is what the handler serves. Engine, Images, Volumes and Networks are
// required; a nil Stacks, Backups, Bus or Cluster answers 501 where it is needed.
type Config struct {
	Engine   Engine
	Images   Images
	Volumes  Volumes
	Networks Networks
	Stacks   Stacks
	Backups  Backups
	Bus      Bus
	Cluster  Cluster           // nil: a node alone, without the swarm's verbs
	Host     cluster.HostCheck // nil: host paths and devices are not checked when a stack is applied
	Facts    Facts
	Log      *slog.Logger // nil: discarded

	// Layers tells the bytes of all unpacked layers, each counted once, and by
	// image ID the bytes that it shares with others. nil: images share nothing.
	Layers func(ctx context.Context) (total int64, shared map[string]int64, err error)
}

// Engine runs the containers of this node. ref is an ID, a unique prefix of
// one, or a name. Errors wrap the sentinels of package runtime.
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
	List(ctx context.Context, filter runtime.Filter) ([]runtime.Container, error)
	Prune(ctx context.Context, labels map[string]string) (runtime.PruneReport, error)

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
}

// Images is the node's image store.
type Images interface {
	Pull(ctx context.Context, ref string, opt runtime.PullOptions) (*runtime.Image, error)
	Load(ctx context.Context, r io.Reader, progress func(runtime.Progress)) ([]string, error)
	Save(ctx context.Context, refs []string, w io.Writer) error
	Tag(ctx context.Context, ref, newRef string) error
	Remove(ctx context.Context, ref string, force, prune bool) (runtime.PruneReport, error)
	List(ctx context.Context) ([]runtime.Image, error)
	Image(ctx context.Context, ref, platform string) (*runtime.Image, error)
	Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error)
}

// Networks are the replicated networks.
type Networks interface {
	CreateNetwork(ctx context.Context, n stack.Network) (stack.Network, error)
	RemoveNetwork(ctx context.Context, nameOrID string) error
	Network(nameOrID string) (stack.Network, bool)
	Networks() []stack.Network
	// NetworkView is all that is known of a network, for a node that has the replicated state.
	NetworkView(nameOrID string) (stack.NetworkView, error)
}

// Bus carries the node's events.
type Bus interface {
	// Subscribe yields the events between since and until, and those to come
	// when until is zero; a zero since means from now on. The channel is
	// closed when until has passed, ctx is done or the reader was too slow.
	Subscribe(ctx context.Context, since, until time.Time) <-chan runtime.Event
}

// Volumes are the volumes of this node.
type Volumes interface {
	Create(ctx context.Context, spec volumes.Spec) (volumes.Volume, error)
	Inspect(ctx context.Context, name string) (volumes.Volume, error)
	List(ctx context.Context) ([]volumes.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error)
	Users(name string) []string
	Usage(ctx context.Context, name string) (int64, error)
}

// Stacks is the cluster's desired state and what was observed of it.
type Stacks interface {
	Deploy(ctx context.Context, d cluster.Deployment) (*plan.Plan, uint64, error)
	History(name string) ([]cluster.Revision, error)
	Rollback(ctx context.Context, name string, opt cluster.RollbackOptions) (*plan.Plan, uint64, error)
	RemoveStack(ctx context.Context, name string, opt cluster.RemoveOptions) error
	Control(ctx context.Context, name string, action cluster.Action, opt cluster.ControlOptions) error
	Scale(ctx context.Context, name string, counts map[string]int) error
	Stacks() []cluster.StackStatus
	Stack(name string) (cluster.StackStatus, error)
	// StackSince is Stack, or false when nothing about it has changed after
	// index; what was applied is left out when that has not changed.
	StackSince(name string, index uint64) (cluster.StackStatus, bool, error)
	// ForgetVolume drops what is known of where a volume is.
	ForgetVolume(ctx context.Context, name string) error
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// Backups saves volumes to repositories and brings them back.
type Backups interface {
	Backup(ctx context.Context, volume, repo string, mode backup.Mode) (backup.Info, error)
	List(ctx context.Context, repo, volume string) ([]backup.Info, error)
	Verify(ctx context.Context, repo, ref string) ([]backup.Check, error)
	Restore(ctx context.Context, repo, ref string, opt backup.RestoreOptions) (backup.Result, error)
	Export(ctx context.Context, volume string, w io.Writer, mode backup.Mode) error
	Import(ctx context.Context, volume string, r io.Reader, mode backup.Mode) (backup.Result, error)
}

// The interfaces below are asked for at run time: what an Engine or an Images
// does not offer is answered with 501.

// connector is an engine that moves containers between networks.
type connector interface {
	ConnectNetwork(ctx context.Context, ref string, a stack.Attachment) error
	DisconnectNetwork(ctx context.Context, ref, network string, force bool) error
}

// authenticator is an image store that checks credentials with a registry
// (ErrForbidden: they are wrong) and returns an identity token, if there is one.
type authenticator interface {
	Login(ctx context.Context, registry string, auth runtime.RegistryAuth) (token string, err error)
}

// Facts describe the daemon. Empty ones are found out or left out.
type Facts struct {
	NodeID          string // of a daemon without Cluster
	Hostname        string
	Version, Commit string
	BuildTime       string
	DataDir, RunDir string
	Started         time.Time
	Runtimes        map[string]string // OCI runtimes: path by name
	DefaultRuntime  string
	StorageDriver   string // "": "overlayfs"
	CgroupDriver    string // "": "cgroupfs"
	Mirrors         []string
	Labels          []string
	Warnings        []string
	WarningsNow     func() []string // what stands in the way of this host at the moment; nil: nothing
}
