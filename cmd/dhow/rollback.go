package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
)

type rollbackFlags struct {
	to           uint64
	wait, dryRun bool
	waitTimeout  seconds
	grace        seconds
}

func rollbackCmd(a *app) *cobra.Command {
	var f rollbackFlags
	c := &cobra.Command{
		Use: "rollback [STACK]", Short: "Apply an earlier revision of the stack again", Args: cobra.MaximumNArgs(1),
		Long: `Apply an earlier revision of the stack again, as a new one: the one before the last, or what --to
names. Images, secrets and configs are those of then, also where a tag or a file has changed since.`,
		Example:           "  dhow rollback --wait\n  dhow rollback shop --to 3 --dry-run",
		ValidArgsFunction: a.completeStacks,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.rollback(cmd.Context(), f, args) },
	}
	fl := c.Flags()
	fl.Uint64Var(&f.to, "to", 0, "`NUMBER` of the revision, as in dhow history (default: the one before the last)")
	fl.Lookup("to").DefValue = ""
	fl.BoolVar(&f.wait, "wait", false, "return when every service is healthy, or has completed")
	fl.Var(&f.waitTimeout, "wait-timeout", "give up waiting after this many `seconds` (default: never)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print what would change")
	fl.VarP(&f.grace, "timeout", "t", "`seconds` that containers get to stop, over their own stop_grace_period")
	return c
}

func (a *app) rollback(ctx context.Context, f rollbackFlags, args []string) error {
	name, c, revs, err := a.history(ctx, args)
	if err != nil {
		return err
	}
	if f.to == 0 {
		if f.to, err = before(revs); err != nil {
			return fmt.Errorf("stack %s: %w", name, err)
		}
	}
	res, err := c.Rollback(ctx, name, api.RollbackRequest{To: f.to, DryRun: f.dryRun, Grace: f.grace.value()})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s goes back to revision %d:\n%s", name, f.to, res.Plan)
	if f.dryRun || res.Plan.Empty() {
		return nil
	}
	w := watch{app: a, client: c, stack: name, index: res.Index}
	if f.wait {
		w.goal = isHealthy
	}
	if limit := f.waitTimeout.value(); limit != nil && *limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not ready after %s", *limit))
		defer cancel()
	}
	return w.run(ctx)
}

// before is the revision before the last.
func before(revs []api.Revision) (uint64, error) {
	if len(revs) < 2 {
		return 0, errors.New("its history has no revision to go back to")
	}
	return revs[1].Number, nil
}
