package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

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
			res, err := apply(cmd.Context(), cl, p, p.Stack, f.options(args), true)
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
	fl.Lookup("scale").DefValue = ""
	fl.StringVar(&format, "format", "text", "text or json")
	return c
}
