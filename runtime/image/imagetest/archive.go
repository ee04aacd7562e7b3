package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Archive makes an archive of the images that both OCI readers and
// `docker load` understand.
func Archive(t testing.TB, imgs ...Image) []byte {
	t.Helper()
	var built []Built
	for _, img := range imgs {
		built = append(built, Build(t, img))
	}
	return ArchiveOf(t, built...)
}

// ArchiveOf makes an archive of built images.
func ArchiveOf(t testing.TB, built ...Built) []byte {
	t.Helper()
	a := newTar(t)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var docker []dockerManifest
	seen := map[digest.Digest]bool{}
	for _, b := range built {
		for _, d := range sortedDigests(b.Blobs) {
			if !seen[d] {
				a.add(blobPath(d), b.Blobs[d])
			}
			seen[d] = true
		}
		target := b.Target
		m := dockerManifest{Config: blobPath(b.Manifest.Config.Digest)}
		if b.Name != "" {
			target.Annotations = map[string]string{"io.containerd.image.name": normal(b.Name), ocispec.AnnotationRefName: b.Name[strings.LastIndex(b.Name, ":")+1:]}
			m.RepoTags = []string{b.Name}
		}
		for _, l := range b.Manifest.Layers {
			m.Layers = append(m.Layers, blobPath(l.Digest))
		}
		docker = append(docker, m)
		index.Manifests = append(index.Manifests, target)
	}
	a.add("index.json", JSON(t, index))
	a.add("manifest.json", JSON(t, docker))
	a.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return a.done()
}

// DockerArchive makes an archive as `docker save` did before it knew OCI:
// uncompressed layers and manifest.json.
func DockerArchive(t testing.TB, imgs ...Image) []byte {
	t.Helper()
	a := newTar(t)
	var docker []dockerManifest
	for _, img := range imgs {
		b := Build(t, img)
		config := b.Manifest.Config.Digest
		m := dockerManifest{Config: config.Encoded() + ".json"}
		if img.Name != "" {
			m.RepoTags = []string{img.Name}
		}
		a.add(m.Config, b.Blobs[config])
		for _, l := range b.Manifest.Layers {
			z, err := gzip.NewReader(bytes.NewReader(b.Blobs[l.Digest]))
			must(t, err)
			plain, err := io.ReadAll(z)
			must(t, err)
			name := l.Digest.Encoded() + "/layer.tar"
			a.add(name, plain)
			m.Layers = append(m.Layers, name)
		}
		docker = append(docker, m)
	}
	a.add("manifest.json", JSON(t, docker))
	return a.done()
}

type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func normal(name string) string {
	if !strings.Contains(name, "/") {
		name = "library/" + name
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.ContainsAny(first, ".:") && first != "localhost" {
		name = "docker.io/" + name
	}
	return name
}

func sortedDigests(m map[digest.Digest][]byte) []digest.Digest {
	byName := map[string]bool{}
	for d := range m {
		byName[d.String()] = true
	}
	var ds []digest.Digest
	for _, k := range keys(byName) {
		ds = append(ds, digest.Digest(k))
	}
	return ds
}

type tarball struct {
	t   testing.TB
	buf bytes.Buffer
	w   *tar.Writer
}

func newTar(t testing.TB) *tarball {
	a := &tarball{t: t}
	a.w = tar.NewWriter(&a.buf)
	return a
}

func (a *tarball) add(name string, data []byte) {
	must(a.t, a.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}))
	_, err := a.w.Write(data)
	must(a.t, err)
}

func (a *tarball) done() []byte {
	must(a.t, a.w.Close())
	return a.buf.Bytes()
}
