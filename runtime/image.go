package runtime

import (
	"time"

	"github.com/dhow-project/dhow/stack"
)

// ImageConfig is what an image says about its containers.
type ImageConfig struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          []string          `json:"env,omitempty"`
	WorkingDir   string            `json:"workingDir,omitempty"`
	User         string            `json:"user,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // "80/tcp", sorted
	Volumes      []string          `json:"volumes,omitempty"`      // sorted
	StopSignal   string            `json:"stopSignal,omitempty"`
	Healthcheck  *ImageHealthcheck `json:"healthcheck,omitempty"`
	Shell        []string          `json:"shell,omitempty"`
	OnBuild      []string          `json:"onBuild,omitempty"`
}

// ImageHealthcheck is the HEALTHCHECK of an image.
type ImageHealthcheck struct {
	Test                                          []string
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// Image is one image in the node's store.
type Image struct {
	ID           string   // "sha256:..." of the config
	Tags         []string // familiar: "redis:7"; sorted
	Digests      []string // familiar: "redis@sha256:..."; sorted
	Created      time.Time
	Size         int64 // bytes of the unpacked layers
	Architecture string
	Variant      string
	OS           string
	Author       string
	Comment      string
	Config       ImageConfig
	Layers       []string       // diff IDs
	History      []ImageHistory // oldest first
	Manifest     string         // digest of the platform's manifest
	LastTagged   time.Time
	Target       string   // digest of what the reference means, an index or Manifest itself; only of an image that was asked for by reference
	Platforms    []string // that Target is for: "linux/amd64", sorted; with Target
}

// ImageHistory is one step of an image's making.
type ImageHistory struct {
	Created    time.Time
	CreatedBy  string
	Comment    string
	EmptyLayer bool
	Size       int64
}

// PullOptions of an image pull.
type PullOptions struct {
	Platform string
	Auth     *RegistryAuth  // nil: what the node knows
	Progress func(Progress) // nil: none; called from several goroutines

	// Digest is of the index or manifest that the reference has to mean, and
	// ImageID of the image's config: pinned when a stack was applied. "": any.
	Digest, ImageID string
	// Anywhere takes the image of this name that another node has; else the
	// registry is asked first what a name without Digest and ImageID means.
	Anywhere bool
	// NoRegistry asks other nodes only, NoPeers the registry only.
	NoRegistry, NoPeers bool
}

// RegistryAuth are credentials for one registry.
type RegistryAuth = stack.RegistryAuth

// Progress of one part of a transfer.
type Progress struct {
	ID             string // short layer digest; "" for the image as a whole
	Status         string // Docker's words: "Pulling fs layer", "Downloading", "Extracting", "Pull complete", "Already exists"
	Current, Total int64  // bytes
}

// PruneReport says what a prune removed.
type PruneReport struct {
	Deleted   []string
	Untagged  []string
	Reclaimed int64 // bytes
}
