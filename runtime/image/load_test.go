package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func TestLoadFormats(t *testing.T) {
	a, b := simple("one:1", "a", "b"), simple("registry.example:5000/team/two:2", "a", "c")
	oci, docker := imagetest.Archive(t, a, b), imagetest.DockerArchive(t, a, b)
	var z, g bytes.Buffer
	zw, _ := zstd.NewWriter(&z)
	zw.Write(oci)
	zw.Close()
	gw := gzip.NewWriter(&g)
	gw.Write(docker)
	gw.Close()
	for name, data := range map[string][]byte{"oci": oci, "docker": docker, "oci.zst": z.Bytes(), "docker.gz": g.Bytes()} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, nil)
			rec := &recorder{}
			names, err := s.Load(t.Context(), bytes.NewReader(data), rec.emit)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"one:1", "registry.example:5000/team/two:2"}; !slices.Equal(sorted(names), want) {
				t.Errorf("names %q, want %q", names, want)
			}
			if rec.count("Load complete") == 0 {
				t.Errorf("no progress: %+v", rec.all)
			}
			img := get(t, s, "one:1")
			if img.ID != imagetest.Build(t, a).ID() || len(img.Layers) != 2 || img.Size == 0 || img.OS != "linux" {
				t.Errorf("image is %+v", img)
			}
			if ls, _ := s.leases.List(s.context(t.Context())); len(ls) > 0 {
				t.Errorf("leases left: %v", ls)
			}
		})
	}
}

func TestLoadWithoutName(t *testing.T) {
	s := newStore(t, nil)
	img := simple("", "x")
	names := load(t, s, img)
	if want := []string{imagetest.Build(t, img).ID()}; !slices.Equal(names, want) {
		t.Fatalf("names %q, want %q", names, want)
	}
	if got := get(t, s, names[0]); len(got.Tags) != 0 {
		t.Errorf("tags %q", got.Tags)
	}
}

func TestLoadAgainMovesName(t *testing.T) {
	s := newStore(t, nil)
	load(t, s, simple("app:1", "old"))
	old := get(t, s, "app:1").ID
	load(t, s, simple("app:1", "new"))
	if get(t, s, "app:1").ID == old {
		t.Fatal("name did not move")
	}
	if tags := get(t, s, old).Tags; len(tags) != 0 {
		t.Errorf("old image still has tags %q", tags)
	}
	r, err := s.Prune(t.Context(), false, nil)
	if err != nil || !slices.Contains(r.Deleted, old) || r.Reclaimed == 0 {
		t.Errorf("prune: %+v, %v", r, err)
	}
	if _, err := s.Image(t.Context(), old, ""); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("old image: %v", err)
	}
}

func TestLoadIndexPicksPlatform(t *testing.T) {
	arm, amd := simple("", "arm"), simple("", "amd")
	arm.Arch = "arm64"
	s := newStore(t, nil)
	if _, err := s.Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, imagetest.BuildIndex(t, "multi:1", arm, amd))), nil); err != nil {
		t.Fatal(err)
	}
	if img := get(t, s, "multi:1"); img.Architecture != "amd64" {
		t.Errorf("default platform is %s", img.Architecture)
	}
	img, err := s.Image(t.Context(), "multi:1", "linux/arm64")
	if err != nil || img.Architecture != "arm64" {
		t.Errorf("arm64: %+v, %v", img, err)
	}
	_, err = s.Image(t.Context(), "multi:1", "linux/s390x")
	wantErr(t, err, runtime.ErrNotFound, "s390x", "linux/amd64")
	if _, err := s.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Image(t.Context(), "multi:1", "linux/arm64"); err != nil {
		t.Errorf("after collection: %v", err)
	}
}

func TestLoadDamaged(t *testing.T) {
	built := imagetest.Build(t, simple("bad:1", "some content", "more"))
	good := imagetest.ArchiveOf(t, built)
	without := func(d digest.Digest) []byte {
		blobs := map[digest.Digest][]byte{}
		for k, v := range built.Blobs {
			if k != d {
				blobs[k] = v
			}
		}
		b := built
		b.Blobs = blobs
		return imagetest.ArchiveOf(t, b)
	}
	altered := func(d digest.Digest) []byte {
		i := bytes.Index(good, built.Blobs[d])
		data := bytes.Clone(good)
		data[i+len(built.Blobs[d])/2] ^= 1
		return data
	}
	layer, config := built.Manifest.Layers[1].Digest, built.Manifest.Config.Digest
	cases := map[string][]byte{
		"empty":            nil,
		"not a tar":        []byte("this is no archive, whatever its name says"),
		"truncated":        good[:len(good)/2],
		"truncated header": good[:700],
		"no layer":         without(layer),
		"no config":        without(config),
		"no manifest":      without(built.Target.Digest),
		"altered layer":    altered(layer),
		"altered config":   altered(config),
		"altered manifest": altered(built.Target.Digest),
	}
	s := newStore(t, nil)
	load(t, s, simple("before:1", "kept"))
	ctx := s.context(t.Context())
	if _, err := s.Collect(ctx); err != nil { // the index of the archive itself
		t.Fatal(err)
	}
	before, _ := s.inventory(ctx)
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := s.Load(t.Context(), bytes.NewReader(data), nil)
			wantErr(t, err, runtime.ErrInvalid, "load: ", "archive")
			t.Log(err)
			if list, _ := s.List(t.Context()); len(list) != 1 {
				t.Errorf("%d images", len(list))
			}
			after, _ := s.inventory(ctx)
			if len(after) != len(before) {
				t.Errorf("had %v, now %v", before, after)
			}
		})
	}
	if _, err := s.Load(t.Context(), bytes.NewReader(good), nil); err != nil {
		t.Fatalf("good archive after bad ones: %v", err)
	}
}

func TestLoadCanceled(t *testing.T) {
	s := newStore(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	data := imagetest.Archive(t, simple("slow:1", "x"))
	r, w := io.Pipe()
	go func() {
		w.Write(data[:len(data)/2])
		cancel()
		w.Write(data[len(data)/2:])
	}()
	_, err := s.Load(ctx, r, nil)
	r.Close()
	wantErr(t, err, context.Canceled)
	wantEmpty(t, s)
}

func FuzzLoad(f *testing.F) {
	f.Add(imagetest.Archive(f, simple("a:1", "x")))
	f.Add(imagetest.DockerArchive(f, simple("a:1", "x", "y")))
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	s := newStore(f, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := s.Load(t.Context(), bytes.NewReader(data), nil)
		if err != nil && len(names) > 0 {
			t.Errorf("names %q with error %v", names, err)
		}
		for _, n := range names {
			if _, err := s.Image(t.Context(), n, ""); err != nil {
				t.Errorf("loaded %q: %v", n, err)
			}
			if _, err := s.Remove(t.Context(), n, true, true); err != nil {
				t.Errorf("remove %q: %v", n, err)
			}
		}
	})
}
