package main

import (
	"context"
	"errors"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/compose"
	"github.com/dhow-project/dhow/stack/plan"
)

// apply sends a stack. What the daemon finds wrong with it comes back with its
// place in the files of p.
func apply(ctx context.Context, c *client.Client, p *compose.Project, s stack.Stack, opt plan.Options, dryRun bool) (api.ApplyResponse, error) {
	res, err := c.ApplyStack(ctx, s, opt, dryRun)
	var said *client.Error
	if errors.As(err, &said) && len(said.Problems) > 0 {
		err = p.Place(said.Problems)
	}
	return res, err
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
