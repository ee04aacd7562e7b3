package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
	"github.com/dhow-project/dhow/stack/plan"
)

// revisionRow is a line of `dhow history`.
type revisionRow struct {
	Revision uint64
	Current  bool
	Time     time.Time
	Node     string
	Back     uint64 // revision that it brought back; 0: none
	Result   string
	Message  string
	Changes  []plan.Step
}

func historyCmd(a *app) *cobra.Command {
	var o table.Options
	c := &cobra.Command{
		Use: "history [STACK]", Short: "List what was applied to the stack, and what became of it", Args: cobra.MaximumNArgs(1),
		Long: `List what was applied to the stack, and what became of it. The last ten revisions are kept, until
the stack is taken down.`,
		Example:           "  dhow history\n  dhow history shop --format json",
		ValidArgsFunction: a.completeStacks,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, _, revs, err := a.history(cmd.Context(), args)
			if err != nil {
				return err
			}
			rows := make([]revisionRow, 0, len(revs))
			for _, r := range revs {
				rows = append(rows, revisionRow{Revision: r.Number, Current: r.Current, Time: time.Unix(0, r.Time).UTC(), Node: r.Node,
					Back: r.Back, Result: r.Result, Message: r.Message, Changes: r.Changes})
			}
			return table.Print(a.out, a.fit(o), rows, []table.Column[revisionRow]{
				{Head: "REVISION", Value: revisionWord},
				{Head: "WHEN", Value: func(r revisionRow) string { return units.HumanDuration(time.Since(r.Time)) + " ago" }},
				{Head: "NODE", Value: func(r revisionRow) string { return r.Node }},
				{Head: "RESULT", Value: func(r revisionRow) string { return r.Result + suffix(": ", r.Message) }, Min: 12},
				{Head: "CHANGES", Value: changesWord, Min: 20},
			})
		},
	}
	listFlags(c, &o)
	return c
}

// history asks for the revisions of the stack that args, the flags or the file name.
func (a *app) history(ctx context.Context, args []string) (name string, c *client.Client, revs []api.Revision, err error) {
	if len(args) > 0 {
		name = args[0]
	} else if name, err = a.stackName(ctx); err != nil {
		return name, nil, nil, err
	}
	if c, err = a.daemonClient(ctx); err != nil {
		return name, c, nil, err
	}
	revs, err = c.History(ctx, name)
	if client.IsNotFound(err) {
		err = hinted{notRunning{name, err}, "dhow up, or dhow ls"}
	}
	return name, c, revs, err
}

func revisionWord(r revisionRow) string {
	if r.Current {
		return strconv.FormatUint(r.Revision, 10) + " *"
	}
	return strconv.FormatUint(r.Revision, 10)
}

// changesWord is "back to 3: web recreate (image redis:7 -> redis:8), volume data create".
func changesWord(r revisionRow) string {
	parts := make([]string, 0, len(r.Changes))
	for _, s := range r.Changes {
		word := s.Name
		if s.Kind != plan.Service {
			word = string(s.Kind) + " " + s.Name
		}
		word += " " + string(s.Action)
		if s.Cause != "" && s.Cause != "new" {
			word += " (" + s.Cause + ")"
		}
		parts = append(parts, word)
	}
	text := strings.Join(parts, ", ")
	if r.Back != 0 {
		return fmt.Sprintf("back to %d: %s", r.Back, text)
	}
	return text
}
