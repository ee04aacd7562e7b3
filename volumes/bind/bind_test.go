package bind_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/bind"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		m    stack.Mount
		want string // options, or part of the error
	}{
		{stack.Mount{}, "rbind rprivate rw"},
		{stack.Mount{ReadOnly: true}, "rbind rprivate rro"},
		{stack.Mount{ReadOnly: true, RecursiveReadOnly: "writable"}, "rbind rprivate ro"},
		{stack.Mount{ReadOnly: true, RecursiveReadOnly: "readonly"}, "rbind rprivate rro"},
		{stack.Mount{RecursiveReadOnly: "readonly"}, "recursive read-only needs"},
		{stack.Mount{NonRecursive: true, ReadOnly: true}, "bind rprivate ro"},
		{stack.Mount{RecursiveReadOnly: "disabled"}, "bind rprivate rw"},
		{stack.Mount{Propagation: "private"}, "rbind private rw"},
		{stack.Mount{Propagation: "odd"}, `unknown propagation "odd"`},
		{stack.Mount{SELinux: "x"}, `SELinux mode "x"`},
		{stack.Mount{SELinux: "z"}, "rbind rprivate rw"},
		{stack.Mount{Source: "rel"}, "not an absolute path"},
		{stack.Mount{Source: dir + "/none"}, dir + "/none does not exist"},
		{stack.Mount{Source: dir + "/made/deep", CreateHostPath: true}, "rbind rprivate rw"},
	} {
		c.m.Type, c.m.Target = stack.MountBind, "/t"
		if c.m.Source == "" {
			c.m.Source = dir
		}
		p, err := (&bind.Maker{RecursiveReadOnly: true}).Make(context.Background(), "u", c.m)
		got := strings.Join(p.Options, " ")
		if err != nil {
			got = err.Error()
			if !errors.Is(err, runtime.ErrInvalid) {
				t.Errorf("%+v: %v is not ErrInvalid", c.m, err)
			}
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.m, got, c.want)
		}
	}
	if fi, err := os.Stat(dir + "/made/deep"); err != nil || !fi.IsDir() {
		t.Error("host path not made:", err)
	}
}

func TestPropagation(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for mounts")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	os.Mkdir(dir+"/sub", 0o755)
	make := func(prop string) error {
		_, err := bind.New().Make(context.Background(), "u", stack.Mount{Type: stack.MountBind, Source: dir + "/sub", Target: "/t", Propagation: prop})
		return err
	}
	unix.Mount("", dir, "", unix.MS_PRIVATE, "")
	for _, p := range []string{"shared", "rshared", "slave", "rslave"} {
		if err := make(p); !errors.Is(err, runtime.ErrInvalid) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s on a private mount: %v", p, err)
		}
	}
	unix.Mount("", dir, "", unix.MS_SHARED, "")
	for _, p := range []string{"shared", "rshared", "slave", "rslave", "private"} {
		if err := make(p); err != nil {
			t.Errorf("%s on a shared mount: %v", p, err)
		}
	}
}
