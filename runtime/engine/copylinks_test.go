package engine_test

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
)

// tarballOfLinks is an archive with directories and symbolic links.
func tarballOfLinks(t *testing.T, links map[string]string, dirs ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write := func(h tar.Header) {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range dirs {
		write(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755})
	}
	for name, to := range links {
		write(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Links in the container are followed as its own processes would: up as well,
// never out, and two dots in a name are only a name.
func TestCopyThroughLinks(t *testing.T) {
	n := newNode(t)
	id := n.create("links", sh("true"))
	n.ok(n.CopyTo(n.ctx(), id, "/", tarballOfLinks(t, map[string]string{
		"d/up": "../other", "d/dots": "a..b", "d/out": "../../../../../../other", "d/abs": "/other", "d/twice": "up/../d/dots",
	}, "other", "d/a..b"), false))
	for name, want := range map[string]string{
		"up/f1": "/other/f1", "dots/f2": "/d/a..b/f2", "out/new/f3": "/other/new/f3", "abs/f4": "/other/f4", "twice/f5": "/d/a..b/f5",
	} {
		if err := n.CopyTo(n.ctx(), id, "/d", tarball(t, name, "x"), false); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if st, err := n.StatPath(n.ctx(), id, want); err != nil || st.Size != 1 {
			t.Errorf("%s is not at %s: %v", name, want, err)
		}
	}
}
