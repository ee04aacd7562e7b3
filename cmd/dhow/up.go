package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

type upFlags struct {
	detach, wait, dryRun, build, quiet       bool
	forceRecreate, noRecreate, removeOrphans bool
	noDeps, noStart                          bool
	scale                                    map[string]int
	pull                                     string
	waitTimeout                              seconds
	grace                                    seconds
	foreground
}

func upCmd(a *app) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up [SERVICE...]",
		Short: "Create and start the stack, or change what differs",
		Long: `Create and start the stack, or change what differs from the file. What has not changed is not
touched.

Without --detach the output of the services follows until Ctrl-C, which stops them (containers and
data stay). A second Ctrl-C kills them.`,
		Example: `  dhow up                     start, follow the output, stop with Ctrl-C
  dhow up --wait              start, return when everything is healthy
  dhow up -d --scale app=3    three containers of the service app
  dhow up --dry-run           what would change, and why
  dhow up --exit-code-from tests --abort-on-container-exit`,
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.up(cmd.Context(), f, args) },
	}
	f.register(c, a)
	return c
}

func (f *upFlags) register(c *cobra.Command, a *app) {
	fl := c.Flags()
	fl.BoolVarP(&f.detach, "detach", "d", false, "return when the containers run")
	fl.BoolVar(&f.wait, "wait", false, "return when every service is healthy, or has completed; implies --detach")
	fl.Var(&f.waitTimeout, "wait-timeout", "with --wait or --detach: give up after this many `seconds` (default: never)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print what would change, like dhow plan")
	fl.BoolVar(&f.build, "build", false, "build images first (not there yet: refused)")
	fl.Bool("no-build", false, "accepted for scripts: dhow builds nothing")
	fl.BoolVar(&f.noStart, "no-start", false, "create the containers, start none")
	fl.BoolVar(&f.forceRecreate, "force-recreate", false, "replace containers even if nothing changed")
	fl.BoolVar(&f.noRecreate, "no-recreate", false, "leave existing containers as they are")
	fl.BoolVar(&f.removeOrphans, "remove-orphans", false, "remove services that the file no longer has")
	fl.BoolVar(&f.noDeps, "no-deps", false, "with SERVICE: leave the services it depends on alone")
	fl.StringToIntVar(&f.scale, "scale", nil, "`SERVICE=NUMBER` of containers, over the file's")
	fl.Lookup("scale").DefValue = ""
	fl.StringVar(&f.pull, "pull", "", "pull images first: always, missing (default) or never")
	fl.BoolVar(&f.quiet, "quiet-pull", false, "no progress of pulls")
	fl.VarP(&f.grace, "timeout", "t", "`seconds` that containers get to stop, over their own stop_grace_period")
	fl.BoolVar(&f.abortOnExit, "abort-on-container-exit", false, "stop all when any container ends; excludes --detach")
	fl.BoolVar(&f.abortOnFailure, "abort-on-container-failure", false, "stop all when any container ends with an error; excludes --detach")
	fl.StringVar(&f.exitCodeFrom, "exit-code-from", "", "end with the exit code of this `SERVICE`; implies --abort-on-container-exit")
	fl.BoolVar(&f.noLogPrefix, "no-log-prefix", false, "output without names of services")
	fl.BoolVar(&f.noColor, "no-color", false, "output without colours")
	fl.BoolVar(&f.timestamps, "timestamps", false, "output with the time of each line")
	mustHide(c, "no-build")
	mustComplete(c.RegisterFlagCompletionFunc("pull", cobra.FixedCompletions([]string{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp)))
	mustComplete(c.RegisterFlagCompletionFunc("exit-code-from", a.completeServices))
	mustComplete(c.RegisterFlagCompletionFunc("scale", a.completeScale))
}

func (f upFlags) check() error {
	aborts := f.abortOnExit || f.abortOnFailure || f.exitCodeFrom != ""
	switch {
	case f.build:
		return hinted{usageError{errors.New("--build: dhow does not build images yet")}, "build with another tool, then: dhow load -i ARCHIVE"}
	case f.forceRecreate && f.noRecreate:
		return usagef("--force-recreate and --no-recreate exclude each other")
	case f.abortOnExit && f.abortOnFailure:
		return usagef("--abort-on-container-exit and --abort-on-container-failure exclude each other")
	case aborts && (f.detach || f.wait):
		return usagef("--abort-on-container-exit, --abort-on-container-failure and --exit-code-from need the foreground: leave --detach and --wait out")
	case f.noStart && (f.wait || aborts):
		return usagef("--no-start starts nothing to wait for")
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

// checkServices refuses flags that name services which the file does not have.
func (f upFlags) checkServices(s stack.Stack) error {
	for _, name := range sortedKeys(f.scale) {
		if _, ok := s.Services[name]; !ok {
			return noService("--scale: ", name, sortedKeys(s.Services))
		}
	}
	if _, ok := s.Services[f.exitCodeFrom]; f.exitCodeFrom != "" && !ok {
		return noService("--exit-code-from: ", f.exitCodeFrom, sortedKeys(s.Services))
	}
	return nil
}

func (f upFlags) options(services []string) plan.Options {
	return plan.Options{
		ForceRecreate: f.forceRecreate, NoRecreate: f.noRecreate, RemoveOrphans: f.removeOrphans,
		Services: services, NoDeps: f.noDeps, Scale: f.scale, NoStart: f.noStart, Grace: f.grace.value(),
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
	if err := f.checkServices(p.Stack); err != nil {
		return err
	}
	c, err := a.startedDaemon(ctx)
	if err != nil {
		return err
	}
	chosen := chosenServices(p.Stack, services, f.noDeps)
	if !f.dryRun {
		pulls, err := a.imagesToPull(ctx, c, wishes(p, chosen, f.pull))
		if err != nil {
			return err
		}
		if err := a.pullFor(ctx, c, p, f.options(services), pulls, f.quiet); err != nil {
			return err
		}
	}
	began := time.Now()
	res, err := apply(ctx, c, p, p.Stack, f.options(services), f.dryRun)
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
	w := watch{app: a, client: c, stack: p.Stack.Name, services: chosen, index: res.Index, updates: updatesOf(res.Plan, p.Stack)}
	switch {
	case f.noStart:
		w.goal = isCreated
	case f.wait:
		w.goal = isHealthy
	case !f.detach:
		f.attached = attached(p.Stack, chosen)
		return a.runForeground(ctx, w, f, began)
	}
	if limit := f.waitTimeout.value(); limit != nil && *limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not ready after %s", *limit))
		defer cancel()
	}
	return w.run(ctx)
}

// attached are those of services whose output a foreground up follows.
func attached(s stack.Stack, services []string) []string {
	follow := slices.DeleteFunc(slices.Clone(services), func(name string) bool { return s.Services[name].NoAttach })
	if len(follow) == 0 {
		return []string{""} // an empty list would mean all
	}
	return follow
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
