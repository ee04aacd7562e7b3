package bind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

// Maker implements volumes.Maker for bind mounts.
type Maker struct {
	// RecursiveReadOnly: the OCI runtime knows the mount option "rro".
	RecursiveReadOnly bool
}

var _ volumes.Maker = (*Maker)(nil)

// New returns a Maker for this kernel; runc knows "rro" since 1.1.
func New() *Maker {
	return &Maker{RecursiveReadOnly: hasMountSetattr()}
}

// hasMountSetattr asks the kernel for mount_setattr (5.12): with a bad
// descriptor it answers EBADF when it knows the call.
func hasMountSetattr() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	return err != unix.ENOSYS
}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// Make checks the source and returns its bind mount.
func (b *Maker) Make(_ context.Context, _ string, m stack.Mount) (volumes.Prepared, error) {
	if err := check(m); err != nil {
		return volumes.Prepared{}, err
	}
	if err := ensureSource(m.Source, m.CreateHostPath); err != nil {
		return volumes.Prepared{}, err
	}
	opts, err := b.options(m)
	if err != nil {
		return volumes.Prepared{}, err
	}
	prop := opts[1]
	if err := checkPropagation(m.Source, prop); err != nil {
		return volumes.Prepared{}, err
	}
	return volumes.Prepared{
		Mount:   m,
		Point:   runtime.MountPoint{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Propagation: prop},
		Type:    "bind",
		Source:  m.Source,
		Options: opts,
	}, nil
}

// Check finds what Make would refuse, and makes nothing.
func (b *Maker) Check(m stack.Mount) error {
	if err := check(m); err != nil {
		return err
	}
	switch _, err := os.Stat(m.Source); {
	case errors.Is(err, fs.ErrNotExist) && m.CreateHostPath:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return missing(m.Source)
	case err != nil:
		return fmt.Errorf("bind source: %w", err)
	}
	opts, err := b.options(m)
	if err != nil {
		return err
	}
	return checkPropagation(m.Source, opts[1])
}

func missing(path string) error {
	return fmt.Errorf("bind source %s does not exist: %w", path, runtime.ErrInvalid)
}

func check(m stack.Mount) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("bind source %s: %s: %w", m.Source, fmt.Sprintf(format, args...), runtime.ErrInvalid)
	}
	switch {
	case !filepath.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0):
		return bad("not an absolute path")
	case m.Propagation != "" && !slices.Contains(propagations, m.Propagation):
		return bad("unknown propagation %q", m.Propagation)
	case m.SELinux != "" && m.SELinux != "z" && m.SELinux != "Z":
		return bad("unknown SELinux mode %q", m.SELinux)
	case !slices.Contains([]string{"", "enabled", "disabled", "writable", "readonly"}, m.RecursiveReadOnly):
		return bad("unknown recursive mode %q", m.RecursiveReadOnly)
	}
	return nil
}

// ensureSource makes a missing source directory when asked to.
func ensureSource(path string, create bool) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return fmt.Errorf("bind source: %w", err)
		}
		return nil
	}
	if !create {
		return missing(path)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("bind source: make directory: %w", err)
	}
	return nil
}

// options are recursion, propagation and access, in this order. A read-only
// mount is read-only below, too, where kernel and runtime can do that.
func (b *Maker) options(m stack.Mount) ([]string, error) {
	recursive := !m.NonRecursive && m.RecursiveReadOnly != "disabled"
	bindOpt, prop, access := "bind", "rprivate", "rw"
	if recursive {
		bindOpt = "rbind"
	}
	if m.Propagation != "" {
		prop = m.Propagation
	}
	if m.RecursiveReadOnly == "readonly" && (!m.ReadOnly || !recursive || !b.RecursiveReadOnly) {
		return nil, fmt.Errorf("bind source %s: recursive read-only needs a read-only, recursive mount, Linux 5.12 and a runtime that knows rro: %w", m.Source, runtime.ErrInvalid)
	}
	private := prop == "private" || prop == "rprivate"
	switch {
	case !m.ReadOnly:
	case recursive && m.RecursiveReadOnly != "writable" && b.RecursiveReadOnly && private:
		access = "rro"
	default:
		access = "ro"
	}
	return []string{bindOpt, prop, access}, nil
}

// checkPropagation makes sure that the mount that holds the source can
// propagate as asked: the kernel would silently do nothing.
func checkPropagation(source, prop string) error {
	shared := prop == "shared" || prop == "rshared"
	if !shared && prop != "slave" && prop != "rslave" {
		return nil
	}
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return fmt.Errorf("bind source: %w", err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return fmt.Errorf("bind source %s: read mounts: %w", source, err)
	}
	var at *mountinfo.Info // the deepest one; the last of those on one point
	for _, mi := range mounts {
		if at == nil || len(mi.Mountpoint) >= len(at.Mountpoint) {
			at = mi
		}
	}
	if at == nil {
		return fmt.Errorf("bind source %s: no mount holds it: %w", source, runtime.ErrInvalid)
	}
	if strings.Contains(at.Optional, "shared:") || !shared && strings.Contains(at.Optional, "master:") {
		return nil
	}
	want := "shared"
	if !shared {
		want = "shared or slave"
	}
	return fmt.Errorf("bind source %s is on mount %s, which is not %s (propagation %s): %w", source, at.Mountpoint, want, prop, runtime.ErrInvalid)
}
