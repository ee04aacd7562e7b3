package agent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/singleflight"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// imager finds and pulls the images of tasks. Tasks that need the same image
// at the same time share one pull.
type imager struct {
	images Images
	pulls  singleflight.Group
}

// ensure returns the image of a container, pulled as its policy says. pulling
// is called before a pull begins.
func (i *imager) ensure(ctx context.Context, c stack.ContainerSpec, pulling func()) (*runtime.Image, error) {
	if c.ImageID != "" {
		img, err := i.images.Image(ctx, c.ImageID, c.Platform)
		if err == nil || !errors.Is(err, runtime.ErrNotFound) {
			return img, err
		}
	}
	if c.Pull != "always" {
		img, err := i.images.Image(ctx, c.Image, c.Platform)
		if err == nil || !errors.Is(err, runtime.ErrNotFound) {
			return img, err
		}
		if c.Pull == "never" {
			return nil, fmt.Errorf("image %s is not on this node and pull_policy is never: %w", c.Image, runtime.ErrNotFound)
		}
	}
	pulling()
	return i.pull(ctx, c)
}

func (i *imager) pull(ctx context.Context, c stack.ContainerSpec) (*runtime.Image, error) {
	ch := i.pulls.DoChan(c.Image+" "+c.Platform, func() (any, error) {
		return i.images.Pull(ctx, c.Image, runtime.PullOptions{Platform: c.Platform})
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return nil, fmt.Errorf("pull %s: %w", c.Image, r.Err)
		}
		return r.Val.(*runtime.Image), nil
	}
}
