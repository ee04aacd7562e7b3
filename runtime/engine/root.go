package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	goruntime "runtime"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"golang.org/x/sys/unix"
)

// root is a container's file tree as the container sees it, volumes included.
// Every path is resolved below fd by the kernel: no link and no ".." leads out.
type root struct{ fd int }

// withRoot calls f with the file tree of a container, running or not.
func (e *Engine) withRoot(ctx context.Context, c *container, f func(root) error) error {
	for {
		r, _ := c.current()
		if r == nil {
			again, err := e.withStoppedRoot(ctx, c, f)
			if again {
				continue
			}
			return err
		}
		fd, err := c.openProcess(ctx, r, "root", unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			defer unix.Close(fd)
			return f(root{fd})
		}
		if !errors.Is(err, runtime.ErrNotRunning) {
			return err
		}
		select { // it has just ended; who takes note of that needs op
		case <-r.done:
		case <-r.lost:
			return errClosing
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// withStoppedRoot mounts the file tree for the time of f; again tells that the
// container has been started meanwhile.
func (e *Engine) withStoppedRoot(ctx context.Context, c *container, f func(root) error) (again bool, err error) {
	if err := c.use(ctx); err != nil {
		return false, err
	}
	defer c.op.unlock()
	if r, _ := c.current(); r != nil {
		return true, nil
	}
	c.mu.Lock()
	b := &bundle{e: e, c: c, dir: e.bundleDir(c.id), rec: c.rec}
	c.mu.Unlock()
	err = e.withRootfs(ctx, c, func() error {
		if err := b.prepareVolumes(ctx); err != nil {
			return err
		}
		return inNamespace(e.rootfs(c.id), b.vols, f)
	})
	return false, errors.Join(err, e.cfg.Volumes.Unmount(ctx, c.id))
}

// openProcess opens what /proc has about the first process of r. The number of
// one that has ended may be another's, so the shim, its parent, is asked
// afterwards: until that has seen the end, nobody else can have it.
// ErrNotRunning: it has ended.
func (c *container) openProcess(ctx context.Context, r *run, name string, flags int) (int, error) {
	c.mu.Lock()
	pid, over := c.st.Pid, c.run != r
	c.mu.Unlock()
	if over {
		return -1, fmt.Errorf("open %s of its process: %w", name, runtime.ErrNotRunning)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", pid, name), flags|unix.O_CLOEXEC, 0)
	st, asked := r.client.State(ctx)
	if asked == nil && (st.Phase != "running" || st.Pid != pid) {
		asked = runtime.ErrNotRunning
	}
	if asked != nil && err == nil {
		unix.Close(fd)
	}
	if asked != nil { // then it does not matter what became of the opening
		err = asked
	}
	if err != nil {
		return -1, fmt.Errorf("open %s of process %d: %w", name, pid, err)
	}
	return fd, nil
}

// inNamespace calls f with the root file system and the volumes mounted in a
// mount namespace of its own thread, which ends with the call: nothing can be
// left behind. It is never the process's first thread, which does not end and
// through which /proc/self shows the mounts.
func inNamespace(rootfs string, vols []prepared, f func(root) error) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if unix.Gettid() == unix.Getpid() {
			err := inNamespace(rootfs, vols, f) // on another thread, as this one is taken
			goruntime.UnlockOSThread()
			done <- err
			return
		}
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("mount namespace: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("mount namespace: %w", err)
			}
			fd, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			for _, v := range vols {
				if err := (root{fd}).mount(v); err != nil {
					return fmt.Errorf("mount %s: %w", v.Mount.Target, err)
				}
			}
			return f(root{fd})
		}()
	}()
	return <-done
}

// mount binds one volume or host path at its target.
func (r root) mount(v prepared) error {
	if v.Type != "bind" {
		return nil // a tmpfs of a container that does not run is empty
	}
	st, err := os.Stat(v.Source)
	if err != nil {
		return err
	}
	at, err := r.target(v.Mount.Target, st.IsDir())
	if err != nil {
		return err
	}
	defer unix.Close(at)
	place := fmt.Sprintf("/proc/self/fd/%d", at)
	if err := unix.Mount(v.Source, place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if v.Mount.ReadOnly {
		over, err := r.open(v.Mount.Target, unix.O_PATH)
		if err != nil {
			return err
		}
		defer unix.Close(over)
		return unix.Mount("", fmt.Sprintf("/proc/self/fd/%d", over), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// target opens the place of a mount and makes it when it is missing.
func (r root) target(name string, dir bool) (int, error) {
	if dir {
		return r.mkdirAll(name)
	}
	parent, err := r.mkdirAll(path.Dir(path.Clean("/" + name)))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, path.Base(name), unix.O_CREAT|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(fd)
	}
	return r.open(name, unix.O_PATH)
}

// open opens a path below the root; links are followed inside of it.
func (r root) open(name string, flags int) (int, error) {
	return openIn(r.fd, name, flags)
}

func openIn(fd int, name string, flags int) (int, error) {
	rel := strings.TrimLeft(name, "/")
	if rel == "" {
		rel = "."
	}
	for {
		got, err := unix.Openat2(fd, rel, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC),
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err == unix.EINTR || err == unix.EAGAIN { // a rename came in between
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return got, nil
	}
}

// mkdirAll opens a directory below the root and makes what is missing of it.
func (r root) mkdirAll(name string) (int, error) {
	fd, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	clean := path.Clean("/" + name)
	if clean == "/" {
		return -1, err
	}
	parent, err := r.mkdirAll(path.Dir(clean))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, path.Base(clean), 0o755); err != nil && err != unix.EEXIST {
		return -1, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return r.open(clean, unix.O_PATH|unix.O_DIRECTORY)
}

// entry opens the parent of a path, not following a link at its end unless the
// path ends in "/" or "/.". For the root itself the name is ".".
func (r root) entry(name string) (parent int, base string, err error) {
	clean := path.Clean("/" + name)
	follow := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
	if clean == "/" || follow {
		parent, err = r.open(clean, unix.O_PATH|unix.O_DIRECTORY)
		return parent, ".", err
	}
	parent, err = r.open(path.Dir(clean), unix.O_PATH|unix.O_DIRECTORY)
	return parent, path.Base(clean), err
}

// pathError maps the kernel's answers to what callers branch on.
func pathError(c *container, name string, err error) error {
	wrap := fmt.Errorf("container %s: path %s: %w", c.name(), name, err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %w", wrap, runtime.ErrNotFound)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR):
		return fmt.Errorf("%w: %w", wrap, runtime.ErrInvalid)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %w", wrap, runtime.ErrForbidden)
	}
	return wrap
}
