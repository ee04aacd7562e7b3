package stack

// MountType is the kind of a mount.
type MountType string

// The kinds of mount.
const (
	MountVolume MountType = "volume" // named (Source) or anonymous (no Source)
	MountBind   MountType = "bind"
	MountTmpfs  MountType = "tmpfs"
	MountImage  MountType = "image"
	MountNpipe  MountType = "npipe" // refused: Windows only
)

// Mount is one mount of a container.
type Mount struct {
	Type     MountType `json:"type"`
	Source   string    `json:"source,omitempty"` // volume: key in Stack.Volumes, then real volume name for the engine; bind: absolute host path; image: reference
	Target   string    `json:"target"`           // absolute path in the container
	ReadOnly bool      `json:"readOnly,omitempty"`

	// Bind.
	Propagation       string `json:"propagation,omitempty"`    // "private", "rprivate" (default), "shared", "rshared", "slave", "rslave"
	CreateHostPath    bool   `json:"createHostPath,omitempty"` // make the source directory when it is missing
	NonRecursive      bool   `json:"nonRecursive,omitempty"`
	RecursiveReadOnly string `json:"recursiveReadOnly,omitempty"` // "", "enabled", "disabled", "writable", "readonly"
	SELinux           string `json:"selinux,omitempty"`           // "", "z", "Z"

	// Volume.
	NoCopy       bool              `json:"noCopy,omitempty"`       // no copy-up of the image's content into an empty volume
	Subpath      string            `json:"subpath,omitempty"`      // also of an image mount
	VolumeDriver string            `json:"volumeDriver,omitempty"` // for volumes made on the way (docker run)
	VolumeOpts   map[string]string `json:"volumeOpts,omitempty"`
	VolumeLabels map[string]string `json:"volumeLabels,omitempty"`
	FromImage    bool              `json:"fromImage,omitempty"` // a VOLUME of the image

	// Tmpfs.
	TmpfsSize int64    `json:"tmpfsSize,omitempty"` // bytes
	TmpfsMode uint32   `json:"tmpfsMode,omitempty"` // permission bits; 0: 01777
	TmpfsOpts []string `json:"tmpfsOpts,omitempty"` // further mount options: "exec", "uid=5"
}
