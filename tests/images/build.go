package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Builder makes images below Dir: Dir/NAME.tar, and Dir/cache for what is kept between runs.
type Builder struct {
	Dir string    // absolute
	Log io.Writer // progress and the output of package tools
}

// Build makes the archives of refs that are missing or out of date and returns
// their paths, in the order asked for. Several processes may build at once.
func (b *Builder) Build(ctx context.Context, refs ...string) ([]string, error) {
	if err := os.MkdirAll(b.cache(), 0o755); err != nil {
		return nil, err
	}
	unlock, err := b.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	paths := make([]string, 0, len(refs))
	for _, ref := range refs {
		r, err := find(ref)
		if err != nil {
			return nil, err
		}
		path, err := b.archive(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("make image %s: %w", r.Ref, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (b *Builder) cache(parts ...string) string {
	return filepath.Join(append([]string{b.Dir, "cache"}, parts...)...)
}

func (b *Builder) lock() (func(), error) {
	f, err := os.OpenFile(b.cache("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// archive returns the path of r's archive and makes it when it is not there or was made from another recipe.
func (b *Builder) archive(ctx context.Context, r recipe) (string, error) {
	key, err := r.key()
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.Dir, r.name()+".tar")
	if old, err := os.ReadFile(path + ".key"); err == nil && string(old) == key {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	layers, err := b.layers(ctx, r)
	if err != nil {
		return "", err
	}
	if err := writeArchive(path, r, layers); err != nil {
		return "", err
	}
	return path, os.WriteFile(path+".key", []byte(key), 0o644)
}

// layers returns r's layers, its base's first.
func (b *Builder) layers(ctx context.Context, r recipe) ([]layer, error) {
	var layers []layer
	var lower string
	if r.From != "" {
		parent, err := find(r.From)
		if err != nil {
			return nil, err
		}
		if layers, err = b.layers(ctx, parent); err != nil {
			return nil, fmt.Errorf("base %s: %w", r.From, err)
		}
		parentKey, err := parent.key()
		if err != nil {
			return nil, err
		}
		lower = b.cache("rootfs-" + parentKey)
	}
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	top, err := readLayer(b.cache("layer-" + key))
	if err == nil {
		if r.From != "" {
			return append(layers, top), nil
		}
		if _, err := os.Stat(b.cache("rootfs-" + key)); err == nil {
			return append(layers, top), nil
		}
	}
	fmt.Fprintf(b.Log, "== %s\n", r.Ref)
	root, err := b.rootfs(ctx, r, key, lower)
	if err != nil {
		return nil, err
	}
	if top, err = writeLayer(b.cache("layer-"+key), root); err != nil {
		return nil, err
	}
	if r.From != "" || r.Ref != base {
		err = os.RemoveAll(root)
	}
	return append(layers, top), err
}

// rootfs makes the directory whose content becomes r's layer.
func (b *Builder) rootfs(ctx context.Context, r recipe, key, lower string) (string, error) {
	files, err := r.files()
	if err != nil {
		return "", err
	}
	final := b.cache("rootfs-" + key)
	work := final + ".part"
	if err := os.RemoveAll(work); err != nil {
		return "", err
	}
	for _, d := range []string{"root", "overlay", "merged", "assets"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			return "", err
		}
	}
	for _, f := range files {
		p := filepath.Join(work, "assets", f.path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(p, f.data, f.mode); err != nil {
			return "", err
		}
	}
	script := overlayScript
	switch {
	case r.From == "" && r.Ref == base:
		script = baseScript
	case r.From == "":
		script = extractScript
	}
	if err := b.run(ctx, work, lower, script, r); err != nil {
		return "", err
	}
	if err := os.RemoveAll(final); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(work, "root"), final); err != nil {
		return "", err
	}
	return final, os.RemoveAll(work)
}

// run executes script in its own mount and process namespaces, so that no
// mount and no process of a package's scripts is left behind.
func (b *Builder) run(ctx context.Context, work, lower, script string, r recipe) error {
	if err := os.MkdirAll(b.cache("apt", "lists", "partial"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(b.cache("apt", "archives", "partial"), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "LOWER="+lower, "APT="+b.cache("apt"), "PACKAGES="+strings.Join(r.Packages, " "),
		"SETUP="+r.Setup, "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var tail tailBuffer
	cmd.Stdout, cmd.Stderr = &tail, &tail
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w; it printed last:\n%s", err, tail.String())
	}
	return nil
}

// tailBuffer keeps the end of what a package tool prints, for the error.
type tailBuffer struct{ data []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if len(t.data) > 8192 {
		t.data = append(t.data[:0], t.data[len(t.data)-4096:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string { return string(t.data) }
