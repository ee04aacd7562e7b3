package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/progress"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/compose"
)

// pulls is how many images are pulled at once; each pulls its layers in parallel.
const pulls = 3

func pullCmd(a *app) *cobra.Command {
	var quiet, ignore bool
	var policy string
	c := &cobra.Command{
		Use: "pull [SERVICE...]", Short: "Pull the images of services",
		Example: "  dhow pull\n  dhow pull --policy missing web", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if policy != "always" && policy != "missing" {
				return usagef("--policy %s: use always or missing", policy)
			}
			p, err := a.load(cmd.Context(), args...)
			if err != nil {
				return err
			}
			cl, err := a.startedDaemon(cmd.Context())
			if err != nil {
				return err
			}
			err = a.ensureImages(cmd.Context(), cl, p, chosenServices(p.Stack, args, len(args) > 0), policy, quiet)
			if ignore && err != nil {
				fmt.Fprintln(a.err, "warning:", err)
				return nil
			}
			return err
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "no progress")
	c.Flags().BoolVar(&ignore, "ignore-pull-failures", false, "go on with the images that can be had")
	c.Flags().StringVar(&policy, "policy", "always", "always, or missing: only what is not here")
	return c
}

// ensureImages makes the images of services be here as their pull policies say.
// Nothing of a stack has changed when it fails.
func (a *app) ensureImages(ctx context.Context, c *client.Client, p *compose.Project, services []string, override string, quiet bool) error {
	pull, err := a.imagesToPull(ctx, c, wishes(p, services, override))
	if err != nil {
		return err
	}
	return a.pullAll(ctx, c, pull, quiet)
}

// imagesToPull are those that the pull policies ask for; one that is missing
// and may not be pulled is an error.
func (a *app) imagesToPull(ctx context.Context, c *client.Client, wishes []imageWish) (pull []imageWish, err error) {
	var errs []error
	for _, w := range wishes {
		if w.policy != "always" {
			_, err := c.Image(ctx, w.ref)
			if err == nil {
				continue
			}
			if !client.IsNotFound(err) {
				return nil, err
			}
			if w.policy == "never" {
				if shared, err := inCluster(ctx, c); err != nil || shared { // another node may have it, and gives it to those that run it
					if err != nil {
						return nil, err
					}
					continue
				}
				errs = append(errs, w.explain(hinted{fmt.Errorf("%s: image %s is not here, and pulling is off", w.who(), w.ref), "dhow load -i ARCHIVE"}))
				continue
			}
		}
		pull = append(pull, w)
	}
	return pull, errors.Join(errs...)
}

// inCluster reports whether the daemon's node is one of several.
func inCluster(ctx context.Context, c *client.Client) (bool, error) {
	info, err := c.Info(ctx)
	return info.Swarm.LocalNodeState == "active", err
}

func (a *app) pullAll(ctx context.Context, c *client.Client, pull []imageWish, quiet bool) error {
	if len(pull) == 0 {
		return nil
	}
	out := a.err
	if quiet {
		out = nopWriter{}
	}
	d := progress.New(out, progress.Options{TTY: !quiet && a.fancy(a.err), Width: func() int { return width(a.err) }})
	var g errgroup.Group // one that fails does not stop the others: the next try has them
	g.SetLimit(pulls)
	errs := make([]error, len(pull))
	for i, w := range pull {
		g.Go(func() error {
			errs[i] = pullOne(ctx, c, w, d)
			return nil
		})
	}
	err := errors.Join(append(errs, g.Wait())...)
	d.Close()
	return err
}

type nopWriter struct{}

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }

func pullOne(ctx context.Context, c *client.Client, w imageWish, d *progress.Display) error {
	d.Set(w.ref, progress.Item{Name: w.ref, Status: "pulling"})
	sum, status := newLayerSum(), "pulling"
	var auth *stack.RegistryAuth
	if a, ok := registryLogins(w.ref)[stack.RegistryOf(w.ref)]; ok {
		auth = &a
	}
	err := c.PullImage(ctx, w.ref, w.platform, auth, func(m jsonstream.Message) {
		if node, ok := strings.CutPrefix(m.Status, "Pulling from node "); ok { // before there is more than one message at a time
			status = "pulling from node " + node
		}
		d.Set(w.ref, progress.Item{Name: w.ref, Status: status, Detail: sum.add(m)})
	})
	if err != nil {
		d.Set(w.ref, progress.Item{Name: w.ref, Status: "failed", State: progress.Failed})
		return w.explain(fmt.Errorf("%s: %w", w.who(), err))
	}
	d.Set(w.ref, progress.Item{Name: w.ref, Status: "pulled", State: progress.Done})
	return nil
}

// layerSum adds up the progress of an image's layers.
type layerSum struct {
	mu     sync.Mutex
	layers map[string]layerState // guarded by mu
}

type layerState struct{ current, total int64 }

func newLayerSum() *layerSum { return &layerSum{layers: map[string]layerState{}} }

// add takes one message and returns the sum in words: "3 layers, 12.1MB / 40MB".
func (s *layerSum) add(m jsonstream.Message) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.ID != "" && m.Progress != nil && strings.HasPrefix(m.Status, "Download") {
		s.layers[m.ID] = layerState{m.Progress.Current, m.Progress.Total}
	}
	var sum layerState
	for _, l := range s.layers {
		sum.current += l.current
		sum.total += l.total
	}
	if sum.total == 0 {
		return m.Status
	}
	return fmt.Sprintf("%d layers, %s / %s", len(s.layers), units.HumanSize(float64(sum.current)), units.HumanSize(float64(sum.total)))
}

func loadCmd(a *app) *cobra.Command {
	var input string
	var quiet bool
	c := &cobra.Command{
		Use: "load", Short: "Load images from an archive", Args: cobra.NoArgs,
		Long:    "Load images from an archive: an OCI image layout or what docker save writes, plain or compressed.",
		Example: "  dhow load -i redis.tar\n  zstdcat redis.tar.zst | dhow load",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.startedDaemon(cmd.Context())
			if err != nil {
				return err
			}
			in, err := a.input(input)
			if err != nil {
				return err
			}
			defer in.Close()
			return cl.LoadImages(cmd.Context(), in, func(m jsonstream.Message) {
				if !quiet && m.Stream != "" {
					fmt.Fprint(a.out, m.Stream)
				}
			})
		},
	}
	c.Flags().StringVarP(&input, "input", "i", "", "the archive (default: standard input)")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return c
}
