package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// shelf has images by reference and remembers what was pulled.
type shelf struct {
	here   map[string]string // reference to image ID
	pulled []runtime.PullOptions
}

func (s *shelf) Image(_ context.Context, ref, _ string) (*runtime.Image, error) {
	if id := s.here[ref]; id != "" {
		return &runtime.Image{ID: id}, nil
	}
	return nil, fmt.Errorf("no such image: %s: %w", ref, runtime.ErrNotFound)
}

func (s *shelf) Pull(_ context.Context, _ string, opt runtime.PullOptions) (*runtime.Image, error) {
	if opt.Progress != nil {
		opt.Progress(runtime.Progress{Status: "Pulling from node a"})
	}
	opt.Progress = nil
	s.pulled = append(s.pulled, opt)
	if opt.NoRegistry {
		return nil, fmt.Errorf("no other node has it: %w", runtime.ErrNotFound)
	}
	return &runtime.Image{ID: "sha256:pulled"}, nil
}

func TestEnsureImage(t *testing.T) {
	auth := &stack.RegistryAuth{Username: "ann", Password: "pw"}
	two := []string{"linux/amd64", "linux/arm64"}
	for name, c := range map[string]struct {
		spec stack.ContainerSpec
		here map[string]string
		want string               // ID
		pull *runtime.PullOptions // nil: none
	}{
		"name":                 {stack.ContainerSpec{}, map[string]string{"app:1": "x"}, "x", nil},
		"name, absent":         {stack.ContainerSpec{}, nil, "sha256:pulled", &runtime.PullOptions{Auth: auth, Anywhere: true}},
		"always":               {stack.ContainerSpec{Pull: "always"}, map[string]string{"app:1": "x"}, "sha256:pulled", &runtime.PullOptions{Auth: auth, NoPeers: true}},
		"always, pinned":       {stack.ContainerSpec{Pull: "always", Digest: "d"}, map[string]string{"app:1": "x", "d": "y"}, "y", nil},
		"always, pinned, away": {stack.ContainerSpec{Pull: "always", Digest: "d"}, nil, "sha256:pulled", &runtime.PullOptions{Auth: auth, Digest: "d"}},
		"never":                {stack.ContainerSpec{Pull: "never"}, map[string]string{"app:1": "x"}, "x", nil},
		"never, away":          {stack.ContainerSpec{Pull: "never", Digest: "d"}, nil, "", &runtime.PullOptions{Auth: auth, Anywhere: true, NoRegistry: true, Digest: "d"}},
		"digest before ID":     {stack.ContainerSpec{Digest: "d", ImageID: "i"}, map[string]string{"d": "y", "i": "z"}, "y", nil},
		"same image, loaded":   {stack.ContainerSpec{Digest: "d", ImageID: "i"}, map[string]string{"i": "z"}, "z", nil},
		"ID of another platform": {stack.ContainerSpec{Digest: "d", ImageID: "i", Platforms: two}, map[string]string{"i": "z"}, "sha256:pulled",
			&runtime.PullOptions{Auth: auth, Anywhere: true, Digest: "d"}},
		"ID of the platform asked for": {stack.ContainerSpec{Digest: "d", ImageID: "i", Platforms: two, Platform: "linux/arm64"}, map[string]string{"i": "z"}, "z", nil},
		"pinned, other bytes here": {stack.ContainerSpec{ImageID: "i"}, map[string]string{"app:1": "x"}, "sha256:pulled",
			&runtime.PullOptions{Auth: auth, Anywhere: true, ImageID: "i"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Image = "app:1"
			s := &shelf{here: c.here}
			var notes []string
			img, err := (&imager{images: s}).ensure(t.Context(), c.spec, auth, func(n string) { notes = append(notes, n) })
			switch {
			case c.want == "" && !errors.Is(err, runtime.ErrNotFound):
				t.Errorf("error is %v", err)
			case c.want != "" && (err != nil || img.ID != c.want):
				t.Errorf("got %+v, %v, want %s", img, err, c.want)
			}
			if c.pull == nil {
				if len(s.pulled) > 0 {
					t.Errorf("pulled %+v", s.pulled)
				}
				return
			}
			c.pull.Platform = c.spec.Platform
			if len(s.pulled) != 1 || !reflect.DeepEqual(s.pulled[0], *c.pull) {
				t.Errorf("pulled %+v, want %+v", s.pulled, *c.pull)
			}
			if !slices.Equal(notes, []string{"pulls app:1", "pulls app:1 from node a"}) {
				t.Errorf("notes %q", notes)
			}
		})
	}
}
