package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// verb describes one of start, stop, restart, pause and unpause.
type verb struct {
	action     api.Action
	use, short string
	example    string
	goal       goal
	stops      bool // takes --timeout
}

// verbFlags are those of the verbs.
type verbFlags struct {
	waitTimeout seconds
	grace       seconds
}

func (a *app) controlCmd(v verb) *cobra.Command {
	var f verbFlags
	c := &cobra.Command{
		Use: v.use + " [SERVICE...]", Short: v.short, Example: v.example, ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if limit := f.waitTimeout.value(); limit != nil && *limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not done after %s", *limit))
				defer cancel()
			}
			return a.control(ctx, v, f, args)
		},
	}
	c.Flags().Var(&f.waitTimeout, "wait-timeout", "give up waiting after this many `seconds` (default: never)")
	if v.stops {
		c.Flags().VarP(&f.grace, "timeout", "t", "`seconds` that containers get to stop, over their own stop_grace_period")
	}
	return c
}

func (a *app) control(ctx context.Context, v verb, f verbFlags, args []string) error {
	c, name, services, err := a.target(ctx, args)
	if err != nil {
		return err
	}
	if err := c.ControlStack(ctx, name, api.ControlRequest{Action: v.action, Services: args, Grace: f.grace.value()}); err != nil {
		return err
	}
	w := watch{app: a, client: c, stack: name, services: services, goal: v.goal}
	return w.run(ctx)
}

// target is the daemon, the stack and the services (all when none is named) that a command is about.
func (a *app) target(ctx context.Context, args []string) (c *client.Client, name string, services []string, err error) {
	if name, err = a.stackName(ctx); err != nil {
		return nil, "", nil, err
	}
	if c, err = a.daemonClient(ctx); err != nil {
		return nil, "", nil, err
	}
	services, err = a.services(ctx, c, name, args)
	return c, name, services, err
}

// targets is the daemon and the containers of those services; all are with those that do not run.
func (a *app) targets(ctx context.Context, args []string, all bool) (*client.Client, []container.Summary, error) {
	c, name, services, err := a.target(ctx, args)
	if err != nil {
		return nil, nil, err
	}
	list, err := a.containers(ctx, c, name, services, all)
	return c, list, err
}

func startCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionStart, use: "start", short: "Start stopped services as they are", example: "  dhow start web"})
}

func stopCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionStop, use: "stop", short: "Stop services; containers and data stay", example: "  dhow stop web\n  dhow stop            the whole stack, dependents first", goal: isStopped, stops: true})
}

func restartCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionRestart, use: "restart", stops: true, short: "Restart services as they are (up applies changes)", example: "  dhow restart web"})
}

func pauseCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionPause, use: "pause", short: "Freeze the processes of services", example: "  dhow pause worker", goal: isPaused})
}

func unpauseCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionUnpause, use: "unpause", short: "Let frozen services go on", example: "  dhow unpause worker", goal: isUnpaused})
}

func rmCmd(a *app) *cobra.Command {
	var stop, force, volumes bool
	c := &cobra.Command{
		Use: "rm [SERVICE...]", Short: "Remove containers of stopped services",
		Example: "  dhow rm web\n  dhow rm -s web       stop it first", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, services, err := a.target(cmd.Context(), args)
			if err != nil {
				return err
			}
			if stop {
				if err := a.control(cmd.Context(), verb{action: api.ActionStop, goal: isStopped}, verbFlags{}, args); err != nil {
					return err
				}
			}
			return a.removeStopped(cmd.Context(), c, name, services, len(args) > 0, volumes)
		},
	}
	c.Flags().BoolVarP(&stop, "stop", "s", false, "stop them first")
	c.Flags().BoolVarP(&force, "force", "f", false, "accepted for scripts: dhow never asks")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "also their anonymous volumes")
	return c
}

// removeStopped removes the containers of services that do not run. That one of those named runs is an error.
func (a *app) removeStopped(ctx context.Context, c *client.Client, name string, services []string, named, volumes bool) error {
	running, err := a.containers(ctx, c, name, services, false)
	if err != nil {
		return err
	}
	up := map[string]bool{}
	for _, ct := range running {
		up[ct.Labels[labelService]] = true
	}
	services = slices.DeleteFunc(slices.Clone(services), func(s string) bool { return up[s] })
	if len(services) > 0 {
		if err := c.ControlStack(ctx, name, api.ControlRequest{Action: api.ActionRemove, Services: services, Volumes: volumes}); err != nil {
			return err
		}
		w := watch{app: a, client: c, stack: name, services: services, goal: isRemoved}
		if err := w.run(ctx); err != nil {
			return err
		}
	}
	if named && len(up) > 0 {
		return hinted{fmt.Errorf("still running: %s", strings.Join(sortedKeys(up), ", ")), "dhow rm --stop " + strings.Join(sortedKeys(up), " ")}
	}
	return nil
}

func killCmd(a *app) *cobra.Command {
	var signal string
	c := &cobra.Command{
		Use: "kill [SERVICE...]", Short: "Send a signal to the containers of services",
		Example: "  dhow kill -s HUP web", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, list, err := a.targets(cmd.Context(), args, false)
			if err != nil {
				return err
			}
			var g errgroup.Group // side by side: no node waits for another that has gone meanwhile
			g.SetLimit(64)
			for _, ct := range list {
				g.Go(func() error {
					if err := c.KillContainer(cmd.Context(), ct.ID, signal); err != nil && !client.IsConflict(err) && !client.IsNotFound(err) && !a.lost(ct.ID, err) {
						return err
					}
					return nil
				})
			}
			return g.Wait()
		},
	}
	c.Flags().StringVarP(&signal, "signal", "s", "KILL", "name or number")
	return c
}

func scaleCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "scale SERVICE=NUMBER...", Short: "Set the number of containers of services",
		Example: "  dhow scale app=3 worker=0", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeScale,
		RunE: func(cmd *cobra.Command, args []string) error {
			counts := map[string]int{}
			var names []string
			for _, arg := range args {
				name, number, ok := strings.Cut(arg, "=")
				n, err := strconv.Atoi(number)
				if !ok || err != nil || n < 0 {
					return usagef("%s: use SERVICE=NUMBER", arg)
				}
				counts[name] = n
				names = append(names, name)
			}
			c, name, _, err := a.target(cmd.Context(), names)
			if err != nil {
				return err
			}
			if err := c.ScaleStack(cmd.Context(), name, counts); err != nil {
				return err
			}
			w := watch{app: a, client: c, stack: name, services: names}
			return w.run(cmd.Context())
		},
	}
}
