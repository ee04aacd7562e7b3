package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/compose"
	"github.com/dhow-project/dhow/stack/plan"
)

type upFlags struct {
	detach, wait, dryRun, build, quiet        bool
	forceRecreate, noRecreate, removeOrphans  bool
	noDeps, noStart, abortOnExit, noLogPrefix bool
	scale                                     map[string]int
	pull                                      string
	waitTimeout                               time.Duration
	stopTimeout                               time.Duration
}

func upCmd(a *app) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up [SERVICE...]",
		Short: "Create and start the stack, or change what differs",
		Long: `Create and start the stack, or change what differs from the file. What has not changed is not touched.

Without --detach the output of the services follows until Ctrl-C, which stops them (containers and data stay).`,
		Example: `  dhow up                     start, follow the output, stop with Ctrl-C
  dhow up -d --wait           start, return when everything is healthy
  dhow up -d --scale app=3    three containers of the service app
  dhow up --dry-run           what would change, and why`,
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.up(cmd.Context(), f, args) },
	}
	fl := c.Flags()
	fl.BoolVarP(&f.detach, "detach", "d", false, "return when the containers run")
	fl.BoolVar(&f.wait, "wait", false, "return when every service is healthy, or has completed; implies --detach")
	fl.DurationVar(&f.waitTimeout, "wait-timeout", 0, "with --wait or --detach: give up after this time (default: never)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print what would change, like dhow plan")
	fl.BoolVar(&f.build, "build", false, "build images first (not there yet: refused)")
	fl.BoolVar(&f.forceRecreate, "force-recreate", false, "replace containers even if nothing changed")
	fl.BoolVar(&f.noRecreate, "no-recreate", false, "leave existing containers as they are")
	fl.BoolVar(&f.removeOrphans, "remove-orphans", false, "remove services that the file no longer has")
	fl.BoolVar(&f.noDeps, "no-deps", false, "with SERVICE: leave the services it depends on alone")
	fl.StringToIntVar(&f.scale, "scale", nil, "SERVICE=NUMBER of containers, over the file's")
	fl.StringVar(&f.pull, "pull", "", "pull images first: always, missing (default) or never")
	fl.BoolVar(&f.quiet, "quiet-pull", false, "no progress of pulls")
	fl.BoolVar(&f.noLogPrefix, "no-log-prefix", false, "without --detach: output without names of services")
	mustComplete(c.RegisterFlagCompletionFunc("pull", cobra.FixedCompletions([]string{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (f upFlags) check() error {
	switch {
	case f.build:
		return usagef("--build: dhow does not build images yet; build with another tool and `dhow load` the result")
	case f.forceRecreate && f.noRecreate:
		return usagef("--force-recreate and --no-recreate exclude each other")
	case f.pull != "" && !slices.Contains([]string{"always", "missing", "never"}, f.pull):
		return usagef("--pull %s: use always, missing or never", f.pull)
	}
	for s, n := range f.scale {
		if n < 0 {
			return usagef("--scale %s=%d: a number of containers cannot be negative", s, n)
		}
	}
	return nil
}

func (f upFlags) options(services []string) plan.Options {
	return plan.Options{
		ForceRecreate: f.forceRecreate, NoRecreate: f.noRecreate, RemoveOrphans: f.removeOrphans,
		Services: services, NoDeps: f.noDeps, Scale: f.scale,
	}
}

func (a *app) up(ctx context.Context, f upFlags, services []string) error {
	if err := f.check(); err != nil {
		return err
	}
	p, err := a.load(ctx, services...)
	if err != nil {
		return err
	}
	c, err := a.startedDaemon(ctx)
	if err != nil {
		return err
	}
	chosen := chosenServices(p.Stack, services, f.noDeps)
	if !f.dryRun {
		if err := a.ensureImages(ctx, c, p, chosen, f.pull, f.quiet); err != nil {
			return err
		}
	}
	res, err := c.ApplyStack(ctx, p.Stack, f.options(services), f.dryRun)
	if err != nil {
		return err
	}
	if f.dryRun {
		fmt.Fprint(a.out, res.Plan)
		return res.Plan.Err()
	}
	for _, n := range res.Plan.Notes {
		fmt.Fprintln(a.err, "note:", n)
	}
	w := watch{app: a, client: c, stack: p.Stack.Name, services: chosen, healthy: f.wait, index: res.Index}
	wctx := ctx
	if f.waitTimeout > 0 {
		var cancel context.CancelFunc
		wctx, cancel = context.WithTimeoutCause(ctx, f.waitTimeout, fmt.Errorf("not ready after %s", f.waitTimeout))
		defer cancel()
	}
	if err := w.run(wctx); err != nil {
		return err
	}
	if f.detach || f.wait {
		return nil
	}
	return a.attachStack(ctx, c, p.Stack.Name, chosen, f)
}

// chosenServices are the services that an up is about: those named and what they need, or all.
func chosenServices(s stack.Stack, named []string, noDeps bool) []string {
	set := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		svc, ok := s.Services[name]
		if !ok || set[name] {
			return
		}
		set[name] = true
		if !noDeps {
			for _, d := range svc.DependsOn {
				add(d.Service)
			}
		}
	}
	if len(named) == 0 {
		for name := range s.Services {
			add(name)
		}
	}
	for _, name := range named {
		add(name)
	}
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// attachStack follows the output of a stack in the foreground. The first
// interrupt stops the services, a second one leaves them stopping.
func (a *app) attachStack(ctx context.Context, c *client.Client, name string, services []string, f upFlags) error {
	err := a.followLogs(ctx, c, logRequest{stack: name, services: services, follow: true, tail: "all", since: "", noPrefix: f.noLogPrefix, untilStopped: true})
	if ctx.Err() == nil {
		return err
	}
	fmt.Fprintf(a.err, "\nstopping %s (Ctrl-C again leaves at once)\n", name)
	sctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := c.ControlStack(sctx, name, api.ActionStop, services...); err != nil {
		return err
	}
	w := watch{app: a, client: c, stack: name, services: services, stopped: true}
	if err := w.run(sctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func planCmd(a *app) *cobra.Command {
	var f upFlags
	var format string
	c := &cobra.Command{
		Use:   "plan [SERVICE...]",
		Short: "Show what an up would change, and why",
		Example: `  dhow plan
  dhow plan --format json | jq '.steps[].cause'`,
		ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "json" && format != "text" {
				return usagef("--format %s: use text or json", format)
			}
			p, err := a.load(cmd.Context(), args...)
			if err != nil {
				return err
			}
			cl, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			res, err := cl.ApplyStack(cmd.Context(), p.Stack, f.options(args), true)
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(a.out, res.Plan)
			}
			fmt.Fprint(a.out, res.Plan)
			return res.Plan.Err()
		},
	}
	fl := c.Flags()
	fl.BoolVar(&f.forceRecreate, "force-recreate", false, "as for up")
	fl.BoolVar(&f.noRecreate, "no-recreate", false, "as for up")
	fl.BoolVar(&f.removeOrphans, "remove-orphans", false, "as for up")
	fl.BoolVar(&f.noDeps, "no-deps", false, "as for up")
	fl.StringToIntVar(&f.scale, "scale", nil, "as for up")
	fl.StringVar(&format, "format", "text", "text or json")
	return c
}

// imageWish is one image that services need.
type imageWish struct {
	ref, platform, policy string
	services              []string
}

// wishes lists the images of services, each once, with the strictest policy asked for.
func wishes(p *compose.Project, services []string, override string) []imageWish {
	byKey := map[string]*imageWish{}
	var keys []string
	for _, name := range services {
		spec := p.Stack.Services[name].Container
		policy := spec.Pull
		if override != "" {
			policy = override
		}
		key := spec.Image + " " + spec.Platform
		w, ok := byKey[key]
		if !ok {
			w = &imageWish{ref: spec.Image, platform: spec.Platform, policy: policy}
			byKey[key] = w
			keys = append(keys, key)
		}
		if policy == "always" || (w.policy == "never" && policy != "never") {
			w.policy = policy
		}
		w.services = append(w.services, name)
	}
	out := make([]imageWish, len(keys))
	for i, k := range keys {
		out[i] = *byKey[k]
	}
	return out
}

func (w imageWish) who() string {
	if len(w.services) == 1 {
		return "service " + w.services[0]
	}
	return "services " + strings.Join(w.services, ", ")
}
