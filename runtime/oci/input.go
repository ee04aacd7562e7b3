package oci

import (
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Input is everything that goes into a specification.
type Input struct {
	ID    string
	Spec  stack.ContainerSpec
	Image runtime.ImageConfig

	Rootfs   string // absolute host path of the mounted root file system
	Hostname string // "" with UTSMode host
	Mounts   []Mount

	// Namespaces to join, by path; "" makes a new one unless the mode in Spec
	// says host.
	NetNS, PIDNS, IPCNS string

	CgroupPath string // "/dhow-1a2b/ID"
	InitPath   string // host path of the program that becomes /sbin/docker-init
	ShmPath    string // host directory that becomes /dev/shm; "" mounts a private one
	Facts      Facts
}

// Mount is one mount beside the default ones, already in the runtime's terms.
type Mount struct {
	Type        string // "bind", "tmpfs"
	Source      string
	Target      string
	Options     []string
	Propagation string // as asked for: "shared", "rslave", ...
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, runtime.ErrInvalid)...)
}

func ptr[T any](v T) *T { return &v }
