package volumes_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

func TestInherit(t *testing.T) {
	a := volumes.Offered([]runtime.MountPoint{
		{Type: stack.MountVolume, Name: "data", Source: "/run/x", Target: "/data/", Subpath: "in"},
		{Type: stack.MountVolume, Name: "anon", Source: "/var/x", Target: "/anon", Anonymous: true},
		{Type: stack.MountBind, Source: "/srv", Target: "/srv", ReadOnly: true, Propagation: "rshared"},
		{Type: stack.MountImage, Name: "nginx", Source: "/run/y", Target: "/image", ReadOnly: true},
		{Type: stack.MountTmpfs, Target: "/mem"},
		{Type: stack.MountVolume, Name: "hidden", Target: "/own"},
	}, true)
	b := volumes.Offered([]runtime.MountPoint{{Type: stack.MountBind, Source: "/other", Target: "/srv"}}, false)
	own := []stack.Mount{{Type: stack.MountTmpfs, Target: "/own"}, {Type: stack.MountVolume, Target: "/anon", FromImage: true}}
	got := volumes.Inherit(own, append(a, b...))
	want := []stack.Mount{
		{Type: stack.MountTmpfs, Target: "/own"},
		{Type: stack.MountVolume, Source: "anon", Target: "/anon", NoCopy: true, ReadOnly: true},
		{Type: stack.MountVolume, Source: "data", Target: "/data", Subpath: "in", NoCopy: true, ReadOnly: true},
		{Type: stack.MountBind, Source: "/other", Target: "/srv"},
		{Type: stack.MountImage, Source: "nginx", Target: "/image", ReadOnly: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if own[1].Source != "" {
		t.Error("the argument was changed")
	}
}
