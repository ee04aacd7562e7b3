package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// verb describes one of start, stop, restart, pause, unpause and rm.
type verb struct {
	action         api.Action
	use, short     string
	example        string
	healthy, still bool // what to wait for: running, or nothing running; neither: nothing
}

func (a *app) controlCmd(v verb, more ...func(*cobra.Command)) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: v.use + " [SERVICE...]", Short: v.short, Example: v.example, ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %s", timeout))
				defer cancel()
			}
			return a.control(ctx, v, args)
		},
	}
	c.Flags().DurationVar(&timeout, "wait-timeout", 0, "give up waiting after this time (default: never)")
	for _, m := range more {
		m(c)
	}
	return c
}

func (a *app) control(ctx context.Context, v verb, args []string) error {
	c, name, services, err := a.target(ctx, args)
	if err != nil {
		return err
	}
	if err := c.ControlStack(ctx, name, v.action, args...); err != nil {
		return err
	}
	w := watch{app: a, client: c, stack: name, services: services, stopped: v.still}
	if !v.still && !v.healthy {
		return nil
	}
	return w.run(ctx)
}

// target is the daemon, the stack and the services (all when none is named) that a command is about.
func (a *app) target(ctx context.Context, args []string) (c *client.Client, name string, services []string, err error) {
	if name, err = a.stackName(); err != nil {
		return nil, "", nil, err
	}
	if c, err = a.daemonClient(ctx); err != nil {
		return nil, "", nil, err
	}
	services, err = a.services(ctx, c, name, args)
	return c, name, services, err
}

func startCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionStart, use: "start", short: "Start stopped services as they are", example: "  dhow start web", healthy: true})
}

func stopCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionStop, use: "stop", short: "Stop services; containers and data stay", example: "  dhow stop web\n  dhow stop            the whole stack, dependents first", still: true})
}

func restartCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionRestart, use: "restart", short: "Restart services as they are (up applies changes)", example: "  dhow restart web", healthy: true})
}

func pauseCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionPause, use: "pause", short: "Freeze the processes of services", example: "  dhow pause worker"})
}

func unpauseCmd(a *app) *cobra.Command {
	return a.controlCmd(verb{action: api.ActionUnpause, use: "unpause", short: "Let frozen services go on", example: "  dhow unpause worker", healthy: true})
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
				if err := a.control(cmd.Context(), verb{action: api.ActionStop, still: true}, args); err != nil {
					return err
				}
			}
			return c.ControlStack(cmd.Context(), name, api.ActionRemove, services...)
		},
	}
	c.Flags().BoolVarP(&stop, "stop", "s", false, "stop them first")
	c.Flags().BoolVarP(&force, "force", "f", false, "accepted for scripts: dhow never asks")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "also their anonymous volumes")
	return c
}

func killCmd(a *app) *cobra.Command {
	var signal string
	c := &cobra.Command{
		Use: "kill [SERVICE...]", Short: "Send a signal to the containers of services",
		Example: "  dhow kill -s HUP web", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, services, err := a.target(cmd.Context(), args)
			if err != nil {
				return err
			}
			list, err := a.containers(cmd.Context(), c, name, services, false)
			if err != nil {
				return err
			}
			for _, ct := range list {
				if err := c.KillContainer(cmd.Context(), ct.ID, signal); err != nil && !client.IsConflict(err) && !client.IsNotFound(err) {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&signal, "signal", "s", "KILL", "name or number")
	return c
}

func scaleCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "scale SERVICE=NUMBER...", Short: "Set the number of containers of services",
		Example: "  dhow scale app=3 worker=0", Args: cobra.MinimumNArgs(1),
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
