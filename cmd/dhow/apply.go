package main

import (
	"context"
	"errors"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/logins"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/compose"
	"github.com/dhow-project/dhow/stack/plan"
)

// apply sends a stack. What the daemon finds wrong with it comes back with its
// place in the files of p.
func apply(ctx context.Context, c *client.Client, p *compose.Project, s stack.Stack, opt plan.Options, dryRun bool) (api.ApplyResponse, error) {
	req := api.ApplyRequest{Stack: s, Options: opt, DryRun: dryRun}
	if !dryRun {
		var images []string
		for _, sv := range s.Services {
			images = append(images, sv.Container.Image)
		}
		req.Logins = registryLogins(images...)
	}
	res, err := c.Deploy(ctx, req)
	var said *client.Error
	if errors.As(err, &said) && len(said.Problems) > 0 {
		err = p.Place(said.Problems)
	}
	return res, err
}

// registryLogins are the user's own for the registries of images. One that
// cannot be read is no reason to stop: the image may need none, and a pull that
// is refused says so.
func registryLogins(images ...string) map[string]stack.RegistryAuth {
	found, _ := logins.For(logins.Path(), images)
	return found
}

// pullFor pulls what a stack needs, after asking whether it would be taken: a
// mistake shows before anything is downloaded.
func (a *app) pullFor(ctx context.Context, c *client.Client, p *compose.Project, opt plan.Options, pulls []imageWish, quiet bool) error {
	if len(pulls) == 0 {
		return nil
	}
	if _, err := apply(ctx, c, p, p.Stack, opt, true); err != nil {
		return err
	}
	return a.pullAll(ctx, c, pulls, quiet)
}
