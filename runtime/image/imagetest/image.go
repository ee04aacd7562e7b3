package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what an image shall be. The zero value has no layers and no name.
type Image struct {
	Name    string    // "busybox:latest"; "" makes an image without a tag
	Layers  [][]File  // lowest first
	Config  Config    // what containers get from it
	OS      string    // default linux
	Arch    string    // default amd64
	Created time.Time // default 2024-01-01
	Zstd    bool      // layers are compressed with zstd, else with gzip
}

// Config is the part of an image config that tests set.
type Config struct {
	ocispec.ImageConfig
	Healthcheck *Healthcheck `json:",omitempty"`
	Shell       []string     `json:",omitempty"`
	OnBuild     []string     `json:",omitempty"`
}

// Healthcheck of an image.
type Healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration `json:",omitempty"`
	Retries                        int           `json:",omitempty"`
}

// File is one entry of a layer.
type File struct {
	Path     string // "etc/passwd"; a trailing slash makes a directory; ".wh.NAME" removes NAME
	Content  []byte
	Link     string // target, for a symbolic link
	Mode     int64  // default 0755 for directories, 0644 for files
	UID, GID int
	Change   func(*tar.Header) // what the fields above cannot say; nil: nothing
}

// Built is an image in its parts.
type Built struct {
	Name     string
	Target   ocispec.Descriptor // manifest or index
	Manifest ocispec.Manifest   // of the first platform
	Blobs    map[digest.Digest][]byte
}

// ID is the image ID, "sha256:...".
func (b Built) ID() string { return b.Manifest.Config.Digest.String() }

// Build makes the image's blobs.
func Build(t testing.TB, img Image) Built {
	t.Helper()
	b := Built{Name: img.Name, Blobs: map[digest.Digest][]byte{}}
	config := struct {
		ocispec.Image
		Config Config `json:"config"`
	}{Config: img.Config}
	config.OS, config.Architecture = or(img.OS, "linux"), or(img.Arch, "amd64")
	created := img.Created
	if created.IsZero() {
		created = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	config.Created = &created
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	b.Manifest.Layers = []ocispec.Descriptor{}
	for _, files := range img.Layers {
		plain := LayerTar(t, files)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(plain))
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "imagetest"})
		layer := func() ocispec.Descriptor { return b.Add(ocispec.MediaTypeImageLayerGzip, zip(t, plain)) }
		if img.Zstd {
			layer = func() ocispec.Descriptor { return b.Add(ocispec.MediaTypeImageLayerZstd, zstdOf(t, plain)) }
		}
		b.Manifest.Layers = append(b.Manifest.Layers, layer())
	}
	b.Manifest.Versioned = specs.Versioned{SchemaVersion: 2}
	b.Manifest.MediaType = ocispec.MediaTypeImageManifest
	b.Manifest.Config = b.Add(ocispec.MediaTypeImageConfig, JSON(t, config))
	b.Target = b.Add(ocispec.MediaTypeImageManifest, JSON(t, b.Manifest))
	b.Target.Platform = &ocispec.Platform{OS: config.OS, Architecture: config.Architecture}
	return b
}

// BuildIndex joins images of several platforms under one name.
func BuildIndex(t testing.TB, name string, imgs ...Image) Built {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	all := Built{Name: name, Blobs: map[digest.Digest][]byte{}}
	for i, img := range imgs {
		b := Build(t, img)
		for d, data := range b.Blobs {
			all.Blobs[d] = data
		}
		if i == 0 {
			all.Manifest = b.Manifest
		}
		index.Manifests = append(index.Manifests, b.Target)
	}
	all.Target = all.Add(ocispec.MediaTypeImageIndex, JSON(t, index))
	return all
}

// Add adds a blob and returns its descriptor.
func (b Built) Add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b.Blobs[d.Digest] = data
	return d
}

// LayerTar makes an uncompressed layer.
func LayerTar(t testing.TB, files []File) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg,
			Uid: f.UID, Gid: f.GID, ModTime: time.Unix(1700000000, 0)}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		case strings.HasSuffix(f.Path, "/"):
			h.Typeflag = tar.TypeDir
		}
		if h.Mode == 0 {
			h.Mode = map[bool]int64{true: 0o755, false: 0o644}[h.Typeflag == tar.TypeDir]
		}
		if f.Change != nil {
			f.Change(h)
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write(f.Content)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// Files makes a layer of plain files out of a map from path to content, with
// their directories; a path below bin or sbin is executable.
func Files(m map[string]string) []File {
	var files []File
	dirs := map[string]bool{}
	for _, p := range keys(m) {
		p = strings.TrimPrefix(p, "/")
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			dirs[d+"/"] = true
		}
	}
	for _, d := range keys(dirs) {
		files = append(files, File{Path: d})
	}
	for _, p := range keys(m) {
		f := File{Path: strings.TrimPrefix(p, "/"), Content: []byte(m[p]), Mode: 0o644}
		if strings.Contains("/"+p, "bin/") {
			f.Mode = 0o755
		}
		files = append(files, f)
	}
	return files
}

// Busybox is an image with a shell and the usual tools, made of this machine's
// static busybox. The test is skipped where there is none.
func Busybox(t testing.TB, name string) Image {
	t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("no static busybox (apt-get install busybox-static): %v", err)
	}
	files := []File{{Path: "bin/"}, {Path: "dev/"}, {Path: "etc/"}, {Path: "home/"}, {Path: "proc/"}, {Path: "root/", Mode: 0o700},
		{Path: "sys/"}, {Path: "tmp/", Mode: 0o1777}, {Path: "usr/"}, {Path: "usr/bin/"}, {Path: "var/"},
		{Path: "etc/passwd", Content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/home:/bin/sh\n")},
		{Path: "etc/group", Content: []byte("root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n")},
		{Path: "bin/busybox", Content: bin, Mode: 0o755}}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	must(t, err)
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			files = append(files, File{Path: "bin/" + applet, Link: "busybox"})
		}
	}
	return Image{Name: name, Layers: [][]File{files}, Config: Config{ImageConfig: ocispec.ImageConfig{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"sh"}}}}
}

// JSON marshals v.
func JSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return data
}

func zip(t testing.TB, plain []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(plain)
	must(t, err)
	must(t, w.Close())
	return buf.Bytes()
}

func zstdOf(t testing.TB, plain []byte) []byte {
	w, err := zstd.NewWriter(nil)
	must(t, err)
	return w.EncodeAll(plain, nil)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func keys[V any](m map[string]V) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
