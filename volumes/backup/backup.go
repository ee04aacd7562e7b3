package backup

import (
	"context"
	"log/slog"
	"time"

	"github.com/dhow-project/dhow/volumes"
)

// Mode says what happens to the containers that use a volume meanwhile.
type Mode string

// The modes.
const (
	Live  Mode = "live"  // they run on
	Pause Mode = "pause" // they are frozen; the default
	Stop  Mode = "stop"  // they are stopped and started again
)

// Info describes one backup in a repository.
type Info struct {
	ID      string            `json:"id"` // sorts by time within a volume
	Volume  string            `json:"volume"`
	Created time.Time         `json:"created"`
	Mode    Mode              `json:"mode"`
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Files   int64             `json:"files"`  // entries of any type
	Bytes   int64             `json:"bytes"`  // content before compression
	Stored  int64             `json:"stored"` // bytes in the repository
	// Warnings: what could not be kept as it was ("changed while it was read: log/a", sockets).
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"` // List: why this backup cannot be used
}

// Check is the result of verifying one backup.
type Check struct {
	Info Info   `json:"info"`
	Err  string `json:"error,omitempty"` // "" when it is intact
}

// Result of a restore or an import.
type Result struct {
	Volume   string   `json:"volume"`
	Backup   string   `json:"backup,omitempty"`
	Files    int64    `json:"files"`
	Bytes    int64    `json:"bytes"`
	Warnings []string `json:"warnings,omitempty"`
}

// Engine keeps backups in one repository.
type Engine interface {
	// Put stores the tree below dir; meta has Volume, Mode, Driver, Options and Labels set.
	// On an error nothing is visible in the repository.
	Put(ctx context.Context, meta Info, dir string) (Info, error)
	// List returns the backups of volume ("" is all), oldest first.
	List(ctx context.Context, volume string) ([]Info, error)
	// Verify reads a whole backup and compares every checksum.
	Verify(ctx context.Context, b Info) error
	// Get writes the tree into dir, an empty directory, and verifies it on the way.
	Get(ctx context.Context, b Info, dir string) (Result, error)
}

// Opener opens a repository; create makes a missing one.
type Opener func(ctx context.Context, url string, create bool) (Engine, error)

// Volumes is what backups need of the volume manager.
type Volumes interface {
	Inspect(ctx context.Context, name string) (volumes.Volume, error)
	Users(name string) []string
	Hold(ctx context.Context, name string) (dir string, release func() error, err error)
	Replace(ctx context.Context, name string, fill func(dir string) error, quiet func() (func() error, error)) error
	CreateFrom(ctx context.Context, s volumes.Spec, fill func(dir string) error) (volumes.Volume, error)
}

// Users controls containers; the engine's adapter implements it. Its errors name the container.
type Users interface {
	// Running says whether the container runs and is not paused; false for an unknown one.
	Running(ctx context.Context, id string) (bool, error)
	Pause(ctx context.Context, id string) error
	Unpause(ctx context.Context, id string) error // nil when it is gone or not paused
	Stop(ctx context.Context, id string) error
	Start(ctx context.Context, id string) error // nil when it is gone or runs
}

// Config of a Service.
type Config struct {
	Volumes Volumes
	Users   Users             // nil: volumes with users can be backed up live only
	DataDir string            // the journal lives in DataDir/backup-journal
	Engines map[string]Opener // by URL scheme; "file" also serves plain paths
	Log     *slog.Logger
}

// RestoreOptions of Restore and Import.
type RestoreOptions struct {
	As   string // name of a new volume; "": in place
	Mode Mode   // for the users of the volume while its content is exchanged; "" is Stop
}
