package bench

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newBundle unpacks the last layer of an archive of ours and writes a specification that runs args.
func newBundle(t testing.TB, archive string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	rootfs := filepath.Join(dir, "rootfs")
	if err := unpack(archive, rootfs); err != nil {
		t.Fatal(err)
	}
	spec := exec.Command("runc", "spec")
	spec.Dir = dir
	if out, err := spec.CombinedOutput(); err != nil {
		t.Fatalf("runc spec: %v: %s", err, out)
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	process := m["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	m["root"].(map[string]any)["readonly"] = false
	if data, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
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
