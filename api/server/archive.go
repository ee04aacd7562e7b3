package server

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

// differ is an image store that can tell what a container changed in its image's files.
type differ interface {
	Changes(ctx context.Context, containerID string) ([]runtime.PathChange, error)
}

func pathParam(r *http.Request) (string, error) {
	p := r.URL.Query().Get("path")
	if p == "" {
		return "", invalid("missing parameter: path")
	}
	return p, nil
}

func (s *server) headArchive(w http.ResponseWriter, r *http.Request) error {
	p, err := pathParam(r)
	if err != nil {
		return err
	}
	st, err := s.Engine.StatPath(r.Context(), r.PathValue("id"), p)
	if err != nil {
		return noSuchFile(r, p, err)
	}
	setPathStat(w, st)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) getArchive(w http.ResponseWriter, r *http.Request) error {
	p, err := pathParam(r)
	if err != nil {
		return err
	}
	tar, st, err := s.Engine.CopyFrom(r.Context(), r.PathValue("id"), p)
	if err != nil {
		return noSuchFile(r, p, err)
	}
	setPathStat(w, st)
	return sendTar(w, tar)
}

func noSuchFile(r *http.Request, path string, err error) error {
	if errors.Is(err, runtime.ErrNotFound) {
		return notFound("Could not find the file %s in container %s", path, r.PathValue("id"))
	}
	return err
}

func sendTar(w http.ResponseWriter, tar io.ReadCloser) error {
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	_, err := io.Copy(w, tar)
	return errors.Join(err, tar.Close())
}

func setPathStat(w http.ResponseWriter, st *runtime.PathStat) {
	data, _ := json.Marshal(container.PathStat{Name: st.Name, Size: st.Size, Mode: fs.FileMode(st.Mode), Mtime: st.ModTime, LinkTarget: st.LinkTarget}) // plain data
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(data))
}

func (s *server) putArchive(w http.ResponseWriter, r *http.Request) error {
	p, err := pathParam(r)
	if err != nil {
		return err
	}
	ref := r.PathValue("id")
	if flag(r, "copyUIDGID") {
		c, err := s.Engine.Inspect(r.Context(), ref)
		if err != nil {
			return err
		}
		if user := first(c.Spec.User, c.Image.User); user != "" && user != "0" && user != "root" {
			return notYet("copyUIDGID: giving copied files to the container's user %q", user)
		}
	}
	body, err := uncompressed(r.Body)
	if err != nil {
		return invalid("archive: %v", err)
	}
	err = s.Engine.CopyTo(r.Context(), ref, p, body, flag(r, "noOverwriteDirNonDir"))
	if err != nil {
		return noSuchFile(r, p, err)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// uncompressed looks at the first bytes: tar, or gzip, bzip2 or zstd around it.
func uncompressed(r io.Reader) (io.Reader, error) {
	br := bufio.NewReader(r)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(br)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(br), nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(br, zstd.WithDecoderConcurrency(1))
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X'}):
		return nil, errors.New("xz is not supported")
	}
	return br, nil
}

func (s *server) export(w http.ResponseWriter, r *http.Request) error {
	tar, _, err := s.Engine.CopyFrom(r.Context(), r.PathValue("id"), "/.")
	if err != nil {
		return err
	}
	return sendTar(w, tar)
}

func (s *server) changes(w http.ResponseWriter, r *http.Request) error {
	d, can := s.Images.(differ)
	if !can {
		return notYet("changes: comparing a container with its image")
	}
	c, err := s.Engine.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	found, err := d.Changes(r.Context(), c.ID)
	if err != nil {
		return err
	}
	out := []container.FilesystemChange{}
	for _, f := range found {
		out = append(out, container.FilesystemChange{Kind: container.ChangeType(f.Kind), Path: f.Path})
	}
	return ok(w, out)
}
