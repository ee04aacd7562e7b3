package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

// fileCapability is cap_net_raw+ep as security.capability has it on disk (VFS_CAP_REVISION_2).
const fileCapability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// everything is an image with all that a layer can hold.
func everything(name string) imagetest.Image {
	typed := func(kind byte, linkname string, major, minor int64) func(*tar.Header) {
		return func(h *tar.Header) {
			h.Typeflag, h.Linkname, h.Devmajor, h.Devminor = kind, linkname, major, minor
		}
	}
	low := []imagetest.File{
		{Path: "etc/"}, {Path: "gone/"}, {Path: "gone/file", Content: []byte("x")}, {Path: "opaque/"}, {Path: "opaque/low", Content: []byte("x")},
		{Path: "replaced/"}, {Path: "replaced/inside", Content: []byte("x")},
	}
	high := []imagetest.File{
		{Path: ".wh.gone"}, {Path: "opaque/"}, {Path: "opaque/.wh..wh..opq"}, {Path: "opaque/high", Content: []byte("y")},
		{Path: "replaced", Content: []byte("now a file")},
		{Path: "link-target", Content: []byte("shared")}, {Path: "hard", Change: typed(tar.TypeLink, "link-target", 0, 0)},
		{Path: "setuid", Content: []byte("s"), Mode: 0o4755}, {Path: "setgid", Content: []byte("s"), Mode: 0o2755}, {Path: "sticky/", Mode: 0o1777},
		{Path: "big", UID: 4_000_000_000, GID: 3_999_999_999},
		{Path: "null", Change: typed(tar.TypeChar, "", 1, 3)}, {Path: "fifo", Change: typed(tar.TypeFifo, "", 0, 0)},
		{Path: "capable", Mode: 0o755, Change: func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": fileCapability, "SCHILY.xattr.user.note": "kept"}
		}},
		{Path: "implied/parent/file", Content: []byte("z")},
		{Path: "dangling", Link: "/no/where"}, {Path: "longname-" + strings.Repeat("n", 200), Content: []byte("l")},
	}
	return imagetest.Image{Name: name, Layers: [][]imagetest.File{low, high}}
}

// TestLayersComeOutAsTheyWere covers what tar, whiteouts and overlayfs do to each other.
func TestLayersComeOutAsTheyWere(t *testing.T) {
	for _, zstd := range []bool{false, true} {
		t.Run(map[bool]string{false: "gzip", true: "zstd"}[zstd], func(t *testing.T) {
			s, dir := newStore(t, nil), mountDir(t)
			img := everything("all:1")
			img.Zstd = zstd
			load(t, s, img)
			root := filepath.Join(dir, "root")
			if err := s.MountRootfs(t.Context(), "c1", get(t, s, "all:1").ID, root); err != nil {
				t.Fatal(err)
			}
			checkEverything(t, root)
		})
	}
}

func checkEverything(t *testing.T, root string) {
	t.Helper()
	stat := func(name string) (st unix.Stat_t) {
		if err := unix.Lstat(filepath.Join(root, name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return st
	}
	for _, name := range []string{"gone", "gone/file", "opaque/low", ".wh.gone", "opaque/.wh..wh..opq"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	if got := readFile(t, root+"/replaced"); got != "now a file" {
		t.Errorf("replaced: %q", got)
	}
	if a, b := stat("hard"), stat("link-target"); a.Ino != b.Ino || a.Nlink < 2 {
		t.Errorf("the hard link is a copy: %d and %d, %d links", a.Ino, b.Ino, a.Nlink)
	}
	for name, mode := range map[string]uint32{"setuid": 0o4755, "setgid": 0o2755, "sticky": 0o1777} {
		if got := stat(name).Mode & 0o7777; got != mode {
			t.Errorf("%s has mode %o", name, got)
		}
	}
	if st := stat("big"); st.Uid != 4_000_000_000 || st.Gid != 3_999_999_999 {
		t.Errorf("big belongs to %d:%d", st.Uid, st.Gid)
	}
	if st := stat("null"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("null is %o %x", st.Mode, st.Rdev)
	}
	if st := stat("fifo"); st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("fifo is %o", st.Mode)
	}
	for attr, want := range map[string]string{"security.capability": fileCapability, "user.note": "kept"} {
		b := make([]byte, 64)
		n, err := unix.Lgetxattr(filepath.Join(root, "capable"), attr, b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("%s is %q, %v", attr, b[:max(n, 0)], err)
		}
	}
	if got := readFile(t, root+"/implied/parent/file"); got != "z" {
		t.Errorf("implied directories: %q", got)
	}
	if to, err := os.Readlink(root + "/dangling"); to != "/no/where" {
		t.Errorf("dangling leads to %q, %v", to, err)
	}
	if st := stat("longname-" + strings.Repeat("n", 200)); st.Size != 1 || st.Mtim.Sec != 1700000000 {
		t.Errorf("long name: %+v", st)
	}
}

// TestSavedIsWhatOthersRead: the archive is an OCI layout with the manifest.json of docker load beside it, and
// another tool reads either.
func TestSavedIsWhatOthersRead(t *testing.T) {
	s := newStore(t, nil)
	load(t, s, everything("all:1"), simple("team/other:2", "x"))
	path := filepath.Join(t.TempDir(), "saved.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(t.Context(), []string{"all:1", "team/other:2"}, f), f.Close()); err != nil {
		t.Fatal(err)
	}
	files := untar(t, path)
	var layout ocispec.ImageLayout
	var index ocispec.Index
	var docker []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	for name, v := range map[string]any{"oci-layout": &layout, "index.json": &index, "manifest.json": &docker} {
		if err := json.Unmarshal(files[name], v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if layout.Version != "1.0.0" || len(index.Manifests) != 2 || len(docker) != 2 {
		t.Fatalf("%+v %+v %+v", layout, index.Manifests, docker)
	}
	var tags []string
	for _, m := range docker {
		tags = append(tags, m.RepoTags...)
		for _, blob := range append([]string{m.Config}, m.Layers...) {
			if files[blob] == nil {
				t.Errorf("manifest.json names %s, which is not there", blob)
			}
		}
	}
	if slices.Sort(tags); !slices.Equal(tags, []string{"all:1", "team/other:2"}) {
		t.Errorf("tags %q", tags)
	}
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("SKIP: the rest needs skopeo (apt-get install skopeo)")
	}
	for _, source := range []string{"docker-archive:" + path + ":all:1", "oci-archive:" + path + ":1"} {
		if out, err := exec.Command("skopeo", "--insecure-policy", "copy", source, "dir:"+t.TempDir()).CombinedOutput(); err != nil {
			t.Errorf("skopeo copy %s: %v: %s", source, err, out)
		}
	}
}

func untar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSkopeosArchives: what another tool writes, in both forms, is loaded.
func TestSkopeosArchives(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("SKIP: needs skopeo (apt-get install skopeo)")
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "own.tar")
	if err := os.WriteFile(own, imagetest.Archive(t, everything("all:1")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"docker-archive", "oci-archive"} {
		theirs := filepath.Join(dir, form)
		target := map[string]string{"docker-archive": theirs + ":all:1", "oci-archive": theirs + ":docker.io/library/all:1"}[form]
		if out, err := exec.Command("skopeo", "--insecure-policy", "copy", "docker-archive:"+own+":all:1", form+":"+target).CombinedOutput(); err != nil {
			t.Fatalf("skopeo: %v: %s", err, out)
		}
		data, err := os.ReadFile(theirs)
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t, nil)
		names, err := s.Load(t.Context(), bytes.NewReader(data), nil)
		if err != nil || !slices.Equal(names, []string{"all:1"}) {
			t.Errorf("%s: %q, %v", form, names, err)
		}
	}
}

// TestLayersAreFetchedTogether: no layer's answer comes before two have been asked for.
func TestLayersAreFetchedTogether(t *testing.T) {
	reg := newRegistry(t, false)
	built := imagetest.Build(t, simple("", "a", "b", "c", "d"))
	reg.push(t, "app", "1", built)
	layers := map[string]bool{}
	for _, l := range built.Manifest.Layers {
		layers[l.Digest.String()] = true
	}
	var mu sync.Mutex
	asked, most := 0, 0
	two := make(chan struct{})
	reg.setFront(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !layers[filepath.Base(r.URL.Path)] {
			return false
		}
		mu.Lock()
		asked++
		if most = max(most, asked); asked == 2 {
			close(two)
		}
		mu.Unlock()
		select {
		case <-two:
		case <-time.After(10 * time.Second):
			t.Error("the second layer was not asked for while the first was under way")
		}
		return false
	})
	var seen recorder
	if _, err := newStore(t, nil).Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{Progress: seen.emit}); err != nil {
		t.Fatal(err)
	}
	for _, status := range []string{"Pulling fs layer", "Download complete", "Pull complete"} {
		if n := seen.count(status); n != 4 {
			t.Errorf("%q was told %d times for 4 layers", status, n)
		}
	}
}

// TestForeignLayers: a layer that is elsewhere (Windows base images) is named, not silently left out.
func TestForeignLayers(t *testing.T) {
	reg := newRegistry(t, false)
	built := imagetest.Build(t, simple("", "a", "b"))
	m := built.Manifest
	m.Layers = slices.Clone(m.Layers)
	m.Layers[1].MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	m.Layers[1].URLs = []string{"http://127.0.0.1:1/layer"}
	reg.push(t, "app", "1", built)
	manifest := imagetest.JSON(t, m)
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+m.Layers[1].Digest.String()) {
			http.NotFound(w, r)
			return true
		}
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(manifest).String())
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(manifest))
		return true
	})
	s := newStore(t, nil)
	_, err := s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{})
	if err == nil {
		t.Fatal("an image without one of its layers was pulled")
	}
	t.Log(err)
	if list, _ := s.List(t.Context()); len(list) > 0 {
		t.Errorf("it is listed: %+v", list)
	}
}
