package runtime

import (
	"io"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Status of a container, in Docker's words.
type Status string

// The statuses.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead"
)

// Container is all that is known about one container.
type Container struct {
	ID      string              `json:"id"`   // 64 hex digits
	Name    string              `json:"name"` // no leading slash
	Created time.Time           `json:"created"`
	Spec    stack.ContainerSpec `json:"spec"` // as asked for, after defaults
	ImageID string              `json:"imageID"`
	Image   ImageConfig         `json:"image"` // what the image contributed

	State     State         `json:"state"`
	Endpoints []Endpoint    `json:"endpoints,omitempty"`
	Ports     []PortBinding `json:"ports,omitempty"`
	Mounts    []MountPoint  `json:"mounts,omitempty"`

	RestartCount                            int    `json:"restartCount,omitempty"`
	LogPath                                 string `json:"logPath,omitempty"`
	NetNS                                   string `json:"netns,omitempty"` // path; "" for host mode
	HostsPath, HostnamePath, ResolvConfPath string
	Driver                                  string   `json:"driver,omitempty"` // of the root file system: "overlayfs"
	ExecIDs                                 []string `json:"-"`
}

// State is the changing part of a container.
type State struct {
	Status     Status    `json:"status"`
	Pid        int       `json:"pid,omitempty"`
	ExitCode   int       `json:"exitCode,omitempty"` // 128+N when killed by signal N
	Error      string    `json:"error,omitempty"`    // why the last start failed
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	// ManuallyStopped: a person or the agent stopped it; the restart policy rests until the next Start.
	ManuallyStopped bool    `json:"manuallyStopped,omitempty"`
	Health          *Health `json:"health,omitempty"` // nil when the container has no health check
}

// Health is the result of the health check.
type Health struct {
	Status        string         `json:"status"` // "starting", "healthy", "unhealthy"
	FailingStreak int            `json:"failingStreak"`
	Log           []HealthResult `json:"log,omitempty"` // the last five
}

// HealthResult is one run of the probe.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string // at most 4 KiB
}

// Endpoint is a container's place in one network, as it came out.
type Endpoint struct {
	Network    string   `json:"network"` // real name
	NetworkID  string   `json:"networkID"`
	Driver     string   `json:"driver,omitempty"` // of the network: "bridge", "overlay"
	EndpointID string   `json:"endpointID,omitempty"`
	Interface  string   `json:"interface,omitempty"`
	MacAddress string   `json:"macAddress,omitempty"`
	IPv4       string   `json:"ipv4,omitempty"` // "172.20.0.5/24"
	IPv6       string   `json:"ipv6,omitempty"`
	Gateway    string   `json:"gateway,omitempty"`
	Gateway6   string   `json:"gateway6,omitempty"`
	Aliases    []string `json:"aliases,omitempty"`
	DNSNames   []string `json:"dnsNames,omitempty"`
}

// PortBinding is one published port, as it came out.
type PortBinding struct {
	HostIP        string `json:"hostIP,omitempty"` // "0.0.0.0", "::" or the address asked for
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

// MountPoint is one mount, as it came out.
type MountPoint struct {
	Type        stack.MountType `json:"type"`
	Name        string          `json:"name,omitempty"` // of the volume; reference of the image
	Source      string          `json:"source"`         // host path
	Target      string          `json:"target"`
	Driver      string          `json:"driver,omitempty"`
	Subpath     string          `json:"subpath,omitempty"` // of the volume or image
	ReadOnly    bool            `json:"readOnly,omitempty"`
	Propagation string          `json:"propagation,omitempty"`
	Anonymous   bool            `json:"anonymous,omitempty"` // removed with the container on request
}

// Filter selects containers. Empty fields select all.
type Filter struct {
	All    bool              // also those that do not run
	Labels map[string]string // all must match; an empty value asks for the key only
	Names  []string
	IDs    []string
}

// RemoveOptions of a container.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // also its anonymous volumes
}

// WaitCondition says what a Wait waits for.
type WaitCondition string

// The conditions, in Docker's words.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// ExitStatus is the answer of a Wait.
type ExitStatus struct {
	Code int
	Err  string // why the container could not run
}

// LogOptions selects log lines.
type LogOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time
	Tail           int // -1 is all
}

// LogEntry is one line of output, or a part of a long one.
type LogEntry struct {
	Time    time.Time
	Stream  string // "stdout", "stderr"
	Line    []byte // with its newline, when it had one
	Partial bool   // more of the same line follows
}

// AttachOptions of Attach.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool // first what was written so far
	DetachKeys            []byte
}

// Streams is a live connection to the standard streams of a process. With a
// TTY everything comes on Stdout. Reading ends with io.EOF after the process
// has ended and its exit code is final.
type Streams struct {
	Stdin  io.WriteCloser // nil when not asked for; Close sends end of file
	Stdout io.Reader      // nil when not asked for
	Stderr io.Reader      // nil when not asked for or with a TTY
	Close  func() error   // leaves; the process goes on
}

// ExecSpec is a further process in a container.
type ExecSpec struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	Stdin      bool     `json:"stdin,omitempty"`
	Stdout     bool     `json:"stdout,omitempty"`
	Stderr     bool     `json:"stderr,omitempty"`
	Rows, Cols uint16   `json:",omitempty"`
}

// Exec is the state of such a process.
type Exec struct {
	ID          string
	ContainerID string
	Spec        ExecSpec
	Running     bool
	ExitCode    *int // nil until it has ended; 126 not executable, 127 not found
	Pid         int
}

// Stats is one reading of a container's counters.
type Stats struct {
	Time                                      time.Time
	CPUNanos                                  uint64 // used, all CPUs
	CPUUserNanos                              uint64
	CPUSystemNanos                            uint64
	SystemNanos                               uint64 // the host's total, for per cent
	OnlineCPUs                                int
	ThrottledNanos, Periods, ThrottledPeriods uint64
	Memory                                    uint64 // bytes in use
	MemoryLimit                               uint64
	MemoryStats                               map[string]uint64
	Pids, PidsLimit                           uint64
	Networks                                  map[string]NetStats
	BlockRead, BlockWrite                     uint64 // bytes
}

// NetStats are the counters of one interface.
type NetStats struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// PathStat describes a file in a container.
type PathStat struct {
	Name       string
	Size       int64
	Mode       uint32 // os.FileMode bits
	ModTime    time.Time
	LinkTarget string
}

// ArchiveSockets is the record in a global header at the end of an archive of a
// container's files: how many sockets the archive could not hold.
const ArchiveSockets = "DHOW.sockets"

// ChangeKind says what became of a path of the image, in Docker's numbers.
type ChangeKind uint8

// The kinds.
const (
	PathModified ChangeKind = iota
	PathAdded
	PathDeleted
)

// PathChange is one difference between a container's files and its image's.
type PathChange struct {
	Path string // absolute
	Kind ChangeKind
}

// Event is something that happened, in Docker's words.
type Event struct {
	Type   string // "container", "image", "network", "volume", "daemon"
	Action string // "create", "start", "die", "destroy", "health_status: healthy", "exec_create: sh", ...
	ID     string
	Attrs  map[string]string // "name", "image", "exitCode", labels
	Time   time.Time
}
