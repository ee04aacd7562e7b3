package main

import (
	"archive/tar"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackSaysWhatItLeavesOut(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var skipped []string
	if err := pack(&b, dir, "top", func(p string) { skipped = append(skipped, p) }); err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 1 || skipped[0] != filepath.Join(dir, "s.sock") {
		t.Errorf("skipped %q, want the socket", skipped)
	}
	var names []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "top/ top/file" {
		t.Errorf("packed %s", got)
	}
}

func TestExtractWarnsOfWhatItCannotMake(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "top/odd", Typeflag: tar.TypeCont}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var warned []string
	x := extractor{top: "top", name: "new", warn: func(p, why string) { warned = append(warned, p+": "+why) }}
	if err := x.extract(&b, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if len(warned) != 1 || !strings.HasPrefix(warned[0], "top/odd: ") {
		t.Errorf("warned %q", warned)
	}
}
