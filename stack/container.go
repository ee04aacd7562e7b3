package stack

import (
	"strings"
	"time"
)

// ContainerSpec is everything needed to run one container. It is the same for
// a task of a service and for a plain `docker run`; the engine knows no other
// form. Field names follow the Docker Engine API where it has a word.
//
// A nil slice or pointer means "as the image or the field's default says";
// an empty, non-nil slice means "nothing". The slices where that makes a
// difference are tagged omitzero, so that JSON keeps the two apart.
type ContainerSpec struct {
	Image    string `json:"image,omitempty"`    // reference as the user wrote it: "redis:7", "repo@sha256:...", an image ID
	ImageID  string `json:"imageID,omitempty"`  // "sha256:..." of the image config, pinned when the stack was applied; wins over Image
	Digest   string `json:"digest,omitempty"`   // "sha256:..." of the index or manifest that Image meant when the stack was applied: for every platform; wins over ImageID
	Platform string `json:"platform,omitempty"` // "linux/arm64"; "" is the node's own
	Pull     string `json:"pull,omitempty"`     // "always", "missing" (default), "never"

	Platforms []string `json:"platforms,omitempty"` // that Digest is for: "linux/amd64", sorted; empty: not known

	Entrypoint []string `json:"entrypoint,omitzero"` // nil: the image's; empty: none
	Command    []string `json:"command,omitzero"`    // nil: the image's, unless Entrypoint is set; empty: none
	Env        []string `json:"env,omitempty"`       // KEY=VALUE over the image's; KEY alone removes the image's variable
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"` // "name", "uid", "user:group"; "" is the image's
	GroupAdd   []string `json:"groupAdd,omitempty"`

	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	TTY          bool `json:"tty,omitempty"`
	OpenStdin    bool `json:"openStdin,omitempty"`
	StdinOnce    bool `json:"stdinOnce,omitempty"`    // close stdin when the first attached client leaves
	AttachStdin  bool `json:"attachStdin,omitempty"`  // recorded for inspect only
	AttachStdout bool `json:"attachStdout,omitempty"` // recorded for inspect only
	AttachStderr bool `json:"attachStderr,omitempty"` // recorded for inspect only
	// ConsoleSize is the first size of the TTY in rows and columns; zero leaves the terminal's own.
	ConsoleSize [2]uint16 `json:"consoleSize,omitzero"`

	StopSignal string         `json:"stopSignal,omitempty"` // "" is the image's, then SIGTERM
	StopGrace  *time.Duration `json:"stopGrace,omitempty"`  // nil: 10 s

	Init       bool `json:"init,omitempty"`
	ReadOnly   bool `json:"readOnly,omitempty"`
	Privileged bool `json:"privileged,omitempty"`

	CapAdd            []string          `json:"capAdd,omitempty"`
	CapDrop           []string          `json:"capDrop,omitempty"`
	SecurityOpt       []string          `json:"securityOpt,omitempty"` // "no-new-privileges", "seccomp=unconfined|JSON", "apparmor=...", "label=...", "systempaths=unconfined"
	Devices           []Device          `json:"devices,omitempty"`
	DeviceCgroupRules []string          `json:"deviceCgroupRules,omitempty"`
	Sysctls           map[string]string `json:"sysctls,omitempty"`
	MaskedPaths       []string          `json:"maskedPaths,omitzero"`   // nil: the field's default
	ReadonlyPaths     []string          `json:"readonlyPaths,omitzero"` // nil: the field's default

	NetworkMode  string `json:"networkMode,omitempty"`  // "": Networks below; "none", "host", "container:ID", "service:NAME" (resolved to container: by the agent), or one network's name
	PIDMode      string `json:"pidMode,omitempty"`      // "", "host", "container:ID", "service:NAME"
	IPCMode      string `json:"ipcMode,omitempty"`      // "", "private", "shareable", "host", "none", "container:ID", "service:NAME"
	UTSMode      string `json:"utsMode,omitempty"`      // "", "host"
	UsernsMode   string `json:"usernsMode,omitempty"`   // "", "host"
	CgroupnsMode string `json:"cgroupnsMode,omitempty"` // "", "private", "host"
	CgroupParent string `json:"cgroupParent,omitempty"`

	DNS        []string     `json:"dns,omitempty"`
	DNSSearch  []string     `json:"dnsSearch,omitempty"`
	DNSOptions []string     `json:"dnsOptions,omitempty"`
	ExtraHosts []string     `json:"extraHosts,omitempty"` // "name:address"; address "host-gateway" is the host as seen from the container
	Networks   []Attachment `json:"networks,omitempty"`
	Ports      []Port       `json:"ports,omitempty"`
	Expose     []string     `json:"expose,omitempty"` // "80/tcp", "8000-8010/udp"
	PublishAll bool         `json:"publishAll,omitempty"`
	MacAddress string       `json:"macAddress,omitempty"` // of the first network

	Mounts      []Mount   `json:"mounts,omitempty"`
	VolumesFrom []string  `json:"volumesFrom,omitempty"` // "container[:ro|rw]"; "service:NAME" form is resolved by the agent
	Secrets     []FileRef `json:"secrets,omitempty"`
	Configs     []FileRef `json:"configs,omitempty"`

	Runtime        string            `json:"runtime,omitempty"` // OCI runtime: "" is the daemon's default ("runc"); a name or an absolute path
	Resources      Resources         `json:"resources"`
	Ulimits        []Ulimit          `json:"ulimits,omitempty"`
	ShmSize        int64             `json:"shmSize,omitempty"` // bytes; 0: 64 MiB
	StorageOpt     map[string]string `json:"storageOpt,omitempty"`
	OOMScoreAdj    int               `json:"oomScoreAdj,omitempty"`
	OOMKillDisable bool              `json:"oomKillDisable,omitempty"`

	Restart     RestartPolicy `json:"restart"`
	Healthcheck *Healthcheck  `json:"healthcheck,omitempty"` // nil: the image's
	Log         LogConfig     `json:"log"`
	AutoRemove  bool          `json:"autoRemove,omitempty"`
	Leased      bool          `json:"leased,omitempty"` // runs only while its node has a lease of its cluster (set by the agent)

	PostStart []Hook `json:"postStart,omitempty"` // run in the container after it started, in order
	PreStop   []Hook `json:"preStop,omitempty"`   // run in the container before it is told to stop, in order
}

// OwnNetworks reports whether the container has a place of its own in Networks:
// not the host's network, none, or another container's.
func (c *ContainerSpec) OwnNetworks() bool {
	m := c.NetworkMode
	return m != "host" && m != "none" && !strings.HasPrefix(m, "service:") && !strings.HasPrefix(m, "container:")
}

// Device is a host device node, or a CDI name ("vendor.com/class=name") in Source alone.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target,omitempty"`
	Permissions string `json:"permissions,omitempty"` // subset of "rwm"; "" is "rwm"
}

// Ulimit is one resource limit; -1 is unlimited.
type Ulimit struct {
	Name string `json:"name"` // "nofile", without RLIMIT_
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Resources are what a container may use (limits) and is promised (reservations). Zero means no limit.
type Resources struct {
	NanoCPUs           int64            `json:"nanoCPUs,omitempty"` // 1e9 is one CPU
	CPUShares          int64            `json:"cpuShares,omitempty"`
	CPUPeriod          int64            `json:"cpuPeriod,omitempty"` // microseconds
	CPUQuota           int64            `json:"cpuQuota,omitempty"`  // microseconds per period
	CPURealtimePeriod  int64            `json:"cpuRealtimePeriod,omitempty"`
	CPURealtimeRuntime int64            `json:"cpuRealtimeRuntime,omitempty"`
	CpusetCpus         string           `json:"cpusetCpus,omitempty"`
	CpusetMems         string           `json:"cpusetMems,omitempty"`
	Memory             int64            `json:"memory,omitempty"`            // bytes
	MemorySwap         int64            `json:"memorySwap,omitempty"`        // bytes of memory and swap together; -1 is unlimited swap
	MemorySwappiness   *int64           `json:"memorySwappiness,omitempty"`  // 0 to 100
	MemoryReservation  int64            `json:"memoryReservation,omitempty"` // bytes
	PidsLimit          int64            `json:"pidsLimit,omitempty"`         // -1 is unlimited
	BlkioWeight        uint16           `json:"blkioWeight,omitempty"`
	BlkioWeightDevice  []WeightDevice   `json:"blkioWeightDevice,omitempty"`
	BlkioReadBps       []ThrottleDevice `json:"blkioReadBps,omitempty"`
	BlkioWriteBps      []ThrottleDevice `json:"blkioWriteBps,omitempty"`
	BlkioReadIOps      []ThrottleDevice `json:"blkioReadIOps,omitempty"`
	BlkioWriteIOps     []ThrottleDevice `json:"blkioWriteIOps,omitempty"`
	ReservedNanoCPUs   int64            `json:"reservedNanoCPUs,omitempty"` // for the scheduler
	ReservedMemory     int64            `json:"reservedMemory,omitempty"`   // for the scheduler, bytes
	Generic            map[string]int64 `json:"generic,omitempty"`          // for the scheduler: generic resources by kind
}

// WeightDevice is a relative weight (10 to 1000) of one block device.
type WeightDevice struct {
	Path   string `json:"path"`
	Weight uint16 `json:"weight"`
}

// ThrottleDevice is a rate (bytes or operations per second) of one block device.
type ThrottleDevice struct {
	Path string `json:"path"`
	Rate uint64 `json:"rate"`
}

// RestartPolicy says when the node starts a container again that has stopped.
type RestartPolicy struct {
	Condition   string        `json:"condition,omitempty"`   // "" or "no", "on-failure", "always", "unless-stopped"
	MaxAttempts int           `json:"maxAttempts,omitempty"` // 0 is unlimited
	Delay       time.Duration `json:"delay,omitempty"`       // first delay; 0: 100 ms. It doubles up to 1 min and starts over after 10 s of running
	Window      time.Duration `json:"window,omitempty"`      // attempts older than this do not count; 0 counts all
	Unhealthy   bool          `json:"unhealthy,omitempty"`   // an unhealthy container is stopped and counts as failed (x-dhow-restart-unhealthy)
}

// Healthcheck is a probe run inside the container.
type Healthcheck struct {
	Test          []string      `json:"test,omitempty"`          // {"NONE"}, {"CMD", args...}, {"CMD-SHELL", line}; empty: the image's
	Interval      time.Duration `json:"interval,omitempty"`      // 0: the image's, then 30 s
	Timeout       time.Duration `json:"timeout,omitempty"`       // 0: the image's, then 30 s
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`   // 0: the image's, then none
	StartInterval time.Duration `json:"startInterval,omitempty"` // 0: the image's, then 5 s
	Retries       int           `json:"retries,omitempty"`       // 0: the image's, then 3
}

// LogConfig says where output goes. Drivers: "" and "json-file" and "local" (the shim's file), "none".
type LogConfig struct {
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"` // "max-size" ("10m"), "max-file" ("3")
}

// Hook is a command run inside a container around its life.
type Hook struct {
	Command    []string `json:"command"`
	User       string   `json:"user,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Env        []string `json:"env,omitempty"`
}

// FileRef is a secret or config as a file in the container.
type FileRef struct {
	Source string  `json:"source"`           // key in Stack.Secrets or Stack.Configs
	Target string  `json:"target,omitempty"` // absolute path; set by the loader
	UID    int     `json:"uid,omitempty"`
	GID    int     `json:"gid,omitempty"`
	Mode   *uint32 `json:"mode,omitempty"` // nil: 0444
	Name   string  `json:"name,omitempty"` // real name that Source had when this version of the service was applied; "": what Source means now
	Sum    string  `json:"sum,omitempty"`  // of its content then: the version that this version of the service gets, always; "": the newest
	Data   []byte  `json:"data,omitempty"` // content: filled by the agent on its way to the engine, absent in replicated service specs
}
