package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// ensure returns the image of a container, pulled as its policy says. note is
// told what is being done before a pull begins and when it is known from where.
//
// Bytes that were pinned when the stack was applied are never replaced by what
// the name means here, so that all tasks of a service run the same.
func (i *imager) ensure(ctx context.Context, c stack.ContainerSpec, auth *stack.RegistryAuth, note func(string)) (*runtime.Image, error) {
	pinned := c.Digest != "" || c.ImageID != ""
	for _, ref := range local(c) {
		img, err := i.images.Image(ctx, ref, c.Platform)
		if err == nil || !errors.Is(err, runtime.ErrNotFound) {
			return img, err
		}
	}
	note("pulls " + c.Image)
	opt := runtime.PullOptions{
		Platform: c.Platform, Auth: auth, Digest: c.Digest, ImageID: c.ImageID,
		Anywhere: c.Pull != "always", NoPeers: c.Pull == "always" && !pinned, NoRegistry: c.Pull == "never",
		Progress: func(p runtime.Progress) {
			if node, ok := strings.CutPrefix(p.Status, "Pulling from node "); ok {
				note("pulls " + c.Image + " from node " + node)
			}
		},
	}
	if len(c.Platforms) > 1 && c.Platform == "" {
		opt.ImageID = "" // of the platform where the stack was applied
	}
	img, err := i.pull(ctx, c, opt)
	if err != nil && c.Pull == "never" {
		return nil, fmt.Errorf("image %s is not on this node and pull_policy is never: %w", c.Image, err)
	}
	return img, err
}

// local lists the references under which an image may be here, the best first.
func local(c stack.ContainerSpec) (refs []string) {
	if c.Digest != "" {
		refs = append(refs, c.Digest)
	}
	if c.ImageID != "" && (c.Digest == "" || c.Platform != "" || len(c.Platforms) <= 1) {
		refs = append(refs, c.ImageID)
	}
	if refs == nil && c.Pull != "always" {
		refs = append(refs, c.Image)
	}
	return refs
}

func (i *imager) pull(ctx context.Context, c stack.ContainerSpec, opt runtime.PullOptions) (*runtime.Image, error) {
	key := []string{c.Image, c.Platform, c.Pull, opt.Digest, opt.ImageID}
	if a := opt.Auth; a != nil {
		key = append(key, a.Username, a.Password, a.IdentityToken, a.RegistryToken)
	}
	ch := i.pulls.DoChan(strings.Join(key, "\x00"), func() (any, error) { return i.images.Pull(ctx, c.Image, opt) })
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
