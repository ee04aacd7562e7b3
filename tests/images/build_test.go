package images_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/dhow-project/dhow/tests/images"
	"github.com/dhow-project/dhow/tests/netlab"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: images are made by root")
	}
}

// digests of the manifest and of the layers in an archive.
func digests(t *testing.T, path string) (manifest string, layers []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var index struct{ Manifests []struct{ Digest string } }
	var docker []struct{ Layers []string }
	want := map[string]any{"index.json": &index, "manifest.json": &docker}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if v := want[h.Name]; v != nil {
			if err := json.NewDecoder(r).Decode(v); err != nil {
				t.Fatalf("%s: %s: %v", path, h.Name, err)
			}
		}
	}
	if len(index.Manifests) != 1 || len(docker) != 1 {
		t.Fatalf("%s: %+v %+v", path, index, docker)
	}
	return index.Manifests[0].Digest, docker[0].Layers
}

// TestImagesShareTheirBase: a node stores Debian once.
func TestImagesShareTheirBase(t *testing.T) {
	needsRoot(t)
	paths := netlab.Images(t, "debian:bookworm-slim", "redis:7", "nginx:latest", "memcached:1")
	_, base := digests(t, paths[0])
	for _, p := range paths[1:] {
		if _, layers := digests(t, p); len(layers) != 2 || layers[0] != base[0] || layers[1] == base[0] {
			t.Errorf("%s has layers %q over the base %q", p, layers, base)
		}
	}
}

// TestSameInputsSameDigest makes an image twice from nothing, and a third time from what is there.
func TestSameInputsSameDigest(t *testing.T) {
	needsRoot(t)
	for _, program := range []string{"apt-get", "dpkg", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT RUN: needs %s", program)
		}
	}
	var first string
	for range 2 {
		b := images.Builder{Dir: t.TempDir(), Log: io.Discard}
		paths, err := b.Build(context.Background(), "busybox:latest")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := digests(t, paths[0])
		if first == "" {
			first = got
		}
		if got != first {
			t.Errorf("the same inputs gave %s and %s", first, got)
		}
		before, err := os.Stat(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Build(context.Background(), "busybox:latest"); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Stat(paths[0]); err != nil || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
			t.Errorf("it was made again with nothing changed (%v)", err)
		}
	}
}
