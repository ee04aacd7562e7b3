package bench

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// raw runs runc by itself, in the place that its own `runc spec` describes.
type raw struct {
	b       *testing.B
	archive string
	n       int
}

// runTrue is `runc run` of a bundle, from nothing until the process has ended
// and the container is gone.
func (r *raw) runTrue(bundle string) time.Duration {
	r.n++
	id := fmt.Sprintf("dhow-bench-%d-%d", os.Getpid(), r.n)
	return timed(func() { r.run("run", "--bundle", bundle, id) })
}

// sleeper starts a container that stays until the benchmark ends.
func (r *raw) sleeper() string {
	id := fmt.Sprintf("dhow-bench-%d-sleeper", os.Getpid())
	r.run("run", "--detach", "--bundle", r.bundle("/bin/sleep", "100000"), id)
	r.b.Cleanup(func() { r.run("delete", "--force", id) })
	return id
}

func (r *raw) run(args ...string) {
	r.b.Helper()
	// Without pipes: a detached container would keep them open.
	errs, err := os.CreateTemp(r.b.TempDir(), "stderr")
	if err != nil {
		r.b.Fatal(err)
	}
	defer errs.Close()
	cmd := exec.Command("runc", args...)
	cmd.Stderr = errs
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(errs.Name())
		r.b.Fatalf("runc %s: %v: %s", strings.Join(args, " "), err, text)
	}
}

// bundle unpacks the image and writes the specification of `runc spec`, which
// has a network namespace with nothing in it, few capabilities and no seccomp.
func (r *raw) bundle(args ...string) string {
	r.b.Helper()
	dir := r.b.TempDir()
	if err := unpack(r.archive, filepath.Join(dir, "rootfs")); err != nil {
		r.b.Fatal(err)
	}
	spec := exec.Command("runc", "spec")
	spec.Dir = dir
	if out, err := spec.CombinedOutput(); err != nil {
		r.b.Fatalf("runc spec: %v: %s", err, out)
	}
	r.edit(filepath.Join(dir, "config.json"), dir, func(m map[string]any) {
		process := m["process"].(map[string]any)
		process["terminal"], process["args"] = false, args
		m["root"].(map[string]any)["readonly"] = false
	})
	return dir
}

// bundleOf is the specification that dhow wrote for a container (with seccomp,
// capabilities and mounts), over the same root and with its own empty network
// namespace: what the runtime itself takes for it.
func (r *raw) bundleOf(config string, args ...string) string {
	r.b.Helper()
	dir := r.bundle(args...)
	r.edit(config, dir, func(m map[string]any) {
		m["process"].(map[string]any)["args"] = args
		m["root"].(map[string]any)["path"] = "rootfs"
		linux := m["linux"].(map[string]any)
		delete(linux, "cgroupsPath")
		for _, ns := range linux["namespaces"].([]any) {
			delete(ns.(map[string]any), "path")
		}
	})
	return dir
}

// edit reads a specification and writes it, changed, to dir.
func (r *raw) edit(from, dir string, change func(map[string]any)) {
	r.b.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		r.b.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		r.b.Fatal(err)
	}
	change(m)
	if data, err = json.Marshal(m); err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644)
	}
	if err != nil {
		r.b.Fatal(err)
	}
}

// unpack extracts the biggest gzip blob of an image archive: busybox has one layer.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("no layer in " + archive)
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(h.Name, "blobs/") || h.Size < 100_000 {
			continue
		}
		gz, err := gzip.NewReader(tr)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		cmd := exec.Command("tar", "-x", "-C", dir)
		cmd.Stdin = gz
		return cmd.Run()
	}
}
