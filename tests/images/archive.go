package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// writeArchive writes an OCI image layout that is a `docker save` archive as well.
func writeArchive(path string, r recipe, layers []layer) (err error) {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path+".part"))
		}
	}()
	err = errors.Join(writeImage(tar.NewWriter(f), r, layers), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func writeImage(tw *tar.Writer, r recipe, layers []layer) error {
	a := &archive{tw: tw}
	var diffs, paths []string
	var descs []descriptor
	history := []map[string]any{}
	for i, l := range layers {
		diffs = append(diffs, l.DiffID)
		paths = append(paths, blobPath(l.Digest))
		descs = append(descs, descriptor{MediaType: typeLayer, Digest: l.Digest, Size: l.Size})
		from := base
		if i == len(layers)-1 {
			from = r.Ref
		}
		history = append(history, map[string]any{"created": epoch.UTC(), "created_by": "tests/images " + from})
		a.copy(blobPath(l.Digest), l.Path, l.Size)
	}
	config := a.blob(typeConfig, map[string]any{
		"created": epoch.UTC(), "architecture": runtime.GOARCH, "os": "linux", "config": r.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}, "history": history,
	})
	manifest := a.blob(typeManifest, map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": descs})
	tag := r.Ref[strings.LastIndex(r.Ref, ":")+1:]
	manifest.Annotations = map[string]string{
		"io.containerd.image.name":          "docker.io/library/" + r.Ref,
		"org.opencontainers.image.ref.name": tag,
	}
	a.json("index.json", map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []descriptor{manifest}})
	a.json("manifest.json", []map[string]any{{"Config": blobPath(config.Digest), "RepoTags": []string{r.Ref}, "Layers": paths}})
	a.bytes("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return errors.Join(a.err, tw.Close())
}

// archive writes files into a tar and keeps the first error.
type archive struct {
	tw  *tar.Writer
	err error
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func (a *archive) header(name string, size int64) {
	if a.err == nil {
		a.err = a.tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: epoch})
	}
}

func (a *archive) bytes(name string, data []byte) {
	a.header(name, int64(len(data)))
	if a.err == nil {
		_, a.err = a.tw.Write(data)
	}
}

func (a *archive) json(name string, v any) {
	data, err := json.Marshal(v)
	a.err = errors.Join(a.err, err)
	a.bytes(name, data)
}

func (a *archive) blob(mediaType string, v any) descriptor {
	data, err := json.Marshal(v)
	a.err = errors.Join(a.err, err)
	sum := sha256.Sum256(data)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	a.bytes(blobPath(d.Digest), bytes.TrimSpace(data))
	return d
}

func (a *archive) copy(name, path string, size int64) {
	f, err := os.Open(path)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	defer f.Close()
	a.header(name, size)
	if a.err == nil {
		_, a.err = io.Copy(a.tw, f)
	}
}
