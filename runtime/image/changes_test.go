package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

// Every way in which overlayfs keeps a difference is told in Docker's words.
func TestChanges(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	img := simple("app:1", "low", "high")
	img.Layers[0] = append(img.Layers[0], imagetest.File{Path: "kept/a", Content: []byte("a")}, imagetest.File{Path: "again/old", Content: []byte("o")},
		imagetest.File{Path: "whole/f", Content: []byte("f")}, imagetest.File{Path: "read/only", Content: []byte("r")}, imagetest.File{Path: "hidden", Content: []byte("h")})
	img.Layers[1] = append(img.Layers[1], imagetest.File{Path: ".wh.hidden"}, imagetest.File{Path: "again/new", Content: []byte("n")})
	load(t, s, img)
	id := get(t, s, "app:1").ID
	if list, err := s.Changes(ctx, "never"); err != nil || len(list) > 0 {
		t.Errorf("a container that never ran: %v, %v", list, err)
	}
	root := filepath.Join(dir, "root")
	if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
		t.Fatal(err)
	}
	p := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.WriteFile(p("data/1"), []byte("changed"), 0o644), // a file below
		os.MkdirAll(p("new/sub"), 0o755), os.WriteFile(p("new/sub/f"), nil, 0o644),
		os.RemoveAll(p("whole")),                                                                        // a whiteout
		os.RemoveAll(p("again")), os.Mkdir(p("again"), 0o755), os.WriteFile(p("again/new"), nil, 0o644), // an opaque folder
		os.WriteFile(p("hidden"), nil, 0o644), // was deleted by a layer: it is new
		os.Chmod(p("kept"), 0o700),            // nothing but its mode
		os.Chmod(p("read/only"), 0o600),       // copied up
		os.Mkdir(p("proc"), 0o755),            // where the runtime mounts
		os.Mkdir(p("etc"), 0o755), os.WriteFile(p("etc/hosts"), nil, 0o644),
		os.WriteFile(p("gone"), nil, 0o644), os.Remove(p("gone")), // nothing remains of it
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Changes(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%c %s", "CAD"[c.Kind], c.Path))
	}
	want := "C /again|C /again/new|D /again/old|C /data|C /data/1|A /hidden|C /kept|A /new|A /new/sub|A /new/sub/f|C /read|C /read/only|D /whole"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("changes\n%s\nwant\n%s", s, want)
	}
}
