package container_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/container"
)

type lookup map[string]*runtime.Container

func (l lookup) Inspect(_ context.Context, ref string) (*runtime.Container, error) {
	if c := l[ref]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s: %w", ref, runtime.ErrNotFound)
}

func TestResolve(t *testing.T) {
	a := &runtime.Container{
		Spec: stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountVolume, Source: "data", Target: "/data/", Subpath: "in", VolumeOpts: map[string]string{"type": "x"}}}},
		Mounts: []runtime.MountPoint{
			{Type: stack.MountVolume, Name: "data", Source: "/run/x", Target: "/data"},
			{Type: stack.MountVolume, Name: "anon", Source: "/var/x", Target: "/anon", Anonymous: true},
			{Type: stack.MountBind, Source: "/srv", Target: "/srv", ReadOnly: true, Propagation: "rshared"},
		},
	}
	b := &runtime.Container{Mounts: []runtime.MountPoint{{Type: stack.MountBind, Source: "/other", Target: "/srv"}}}
	own := []stack.Mount{{Type: stack.MountTmpfs, Target: "/own"}, {Type: stack.MountVolume, Target: "/anon", FromImage: true}}
	got, err := container.Resolve(context.Background(), own, []string{"a:ro", "b"}, lookup{"a": a, "b": b})
	if err != nil {
		t.Fatal(err)
	}
	want := []stack.Mount{
		{Type: stack.MountTmpfs, Target: "/own"},
		{Type: stack.MountVolume, Source: "data", Target: "/data", Subpath: "in", NoCopy: true, ReadOnly: true},
		{Type: stack.MountVolume, Source: "anon", Target: "/anon", NoCopy: true, ReadOnly: true},
		{Type: stack.MountBind, Source: "/other", Target: "/srv"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for from, is := range map[string]error{"none": runtime.ErrNotFound, "a:rx": runtime.ErrInvalid, ":ro": runtime.ErrInvalid} {
		if _, err := container.Resolve(context.Background(), nil, []string{from}, lookup{"a": a}); !errors.Is(err, is) {
			t.Errorf("%s: %v", from, err)
		}
	}
}
