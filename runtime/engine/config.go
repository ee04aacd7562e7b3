package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/events"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

// Images is what the engine needs of the image store.
type Images interface {
	Image(ctx context.Context, ref, platform string) (*runtime.Image, error)
	MountRootfs(ctx context.Context, containerID, imageID, target string) error
	UnmountRootfs(ctx context.Context, containerID, target string) error
	RemoveRootfs(ctx context.Context, containerID, target string) error
	SweepRootfs(ctx context.Context, keep func(containerID string) bool) error
}

// Networks is what the engine needs of the node's network.
type Networks interface {
	Connect(ctx context.Context, sb overlaynet.Sandbox) (*overlaynet.Connected, error)
	Disconnect(ctx context.Context, id string) error
	ConnectNetwork(ctx context.Context, id string, at stack.Attachment) (*overlaynet.Connected, error)
	DisconnectNetwork(ctx context.Context, id, nameOrID string) (*overlaynet.Connected, error)
	Rename(id string, dnsNames []string) (*overlaynet.Connected, error)
	SetReady(id string, ready bool)
	Restore(ctx context.Context, have []overlaynet.Restored) error
}

// Volumes is what the engine needs of the node's volumes.
type Volumes interface {
	Prepare(ctx context.Context, user string, mounts []stack.Mount, rootfs string) ([]volumes.Prepared, error)
	Unmount(ctx context.Context, user string) error
	Release(ctx context.Context, user string) error
	RemoveAnonymous(ctx context.Context, user string) error
	Known(ctx context.Context, users map[string][]string) error
}

// Config of an Engine.
type Config struct {
	DataDir string // records and logs: survive a reboot
	RunDir  string // bundles and sockets: may be lost at a reboot

	Shim           string            // path of dhow-shim
	Init           string            // path of the static program that becomes /sbin/docker-init; "" looks for tini-static
	Runtimes       map[string]string // OCI runtimes by name: path
	DefaultRuntime string            // "" is "runc"
	CgroupParent   string            // "" is "/dhow-" and this instance's mark

	Log      *slog.Logger // nil is silent
	Images   Images
	Networks Networks
	Volumes  Volumes
	Bus      *events.Bus // nil: nobody listens
}

func (c Config) withDefaults() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DefaultRuntime == "" {
		c.DefaultRuntime = "runc"
	}
	if c.Init == "" {
		c.Init = findInit()
	}
	for _, dir := range []*string{&c.DataDir, &c.RunDir, &c.Shim} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return c, err
		}
		*dir = abs
	}
	return c, nil
}

// findInit looks where Debian's package puts the static build.
func findInit() string {
	for _, p := range []string{"/usr/bin/tini-static", "/usr/bin/docker-init", "/usr/libexec/docker/docker-init"} {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// runtimePath resolves the name of an OCI runtime.
func (e *Engine) runtimePath(name string) (string, error) {
	if name == "" {
		name = e.cfg.DefaultRuntime
	}
	if filepath.IsAbs(name) {
		if _, err := os.Stat(name); err != nil {
			return "", fmt.Errorf("runtime %s: %w: %w", name, err, runtime.ErrInvalid)
		}
		return name, nil
	}
	if p := e.cfg.Runtimes[name]; p != "" {
		return p, nil
	}
	e.mu.Lock()
	p, ok := e.runtimes[name]
	e.mu.Unlock()
	if ok {
		return p, nil
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("runtime %q is not installed: %w", name, runtime.ErrInvalid)
	}
	e.mu.Lock()
	e.runtimes[name] = p
	e.mu.Unlock()
	return p, nil
}
