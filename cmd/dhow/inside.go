package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
	"github.com/dhow-project/dhow/runtime"
)

// topRow is a process, with the titles of ps as they are.
type topRow map[string]string

func topCmd(a *app) *cobra.Command {
	var o table.Options
	c := &cobra.Command{
		Use: "top [SERVICE...]", Short: "List the processes of services", ValidArgsFunction: a.completeServices,
		Example: "  dhow top web\n  dhow top --format json\n  dhow top --format '{{.PID}} {{.CMD}}'",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, list, err := a.targets(cmd.Context(), args, false)
			if err != nil {
				return err
			}
			tops, err := a.tops(cmd.Context(), c, list)
			if err != nil {
				return err
			}
			first := true
			for i, top := range tops {
				if top == nil {
					continue
				}
				if o.Format == "" || o.Format == "table" {
					if !first {
						fmt.Fprintln(a.out)
					}
					first = false
					fmt.Fprintln(a.out, containerName(list[i])+a.at(list[i]))
				}
				if err := printTop(a, o, list[i], top.Titles, top.Processes); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Format, "format", "", "table (default), json (one object a line), or a Go template")
	return c
}

// tops are the processes of containers, asked for side by side; nil of one that
// has ended meanwhile, or whose node has gone.
func (a *app) tops(ctx context.Context, c *client.Client, list []container.Summary) ([]*container.TopResponse, error) {
	tops := make([]*container.TopResponse, len(list))
	g, gctx := errgroup.WithContext(ctx)
	for i, ct := range list {
		g.Go(func() error {
			top, err := c.Top(gctx, ct.ID, "")
			if client.IsConflict(err) || client.IsNotFound(err) || a.lost(ct.ID, err) {
				return nil
			}
			tops[i] = &top
			return err
		})
	}
	return tops, g.Wait()
}

// at is "@host" where there are several nodes.
func (a *app) at(ct container.Summary) string {
	if !a.manyNodes() {
		return ""
	}
	return suffix("@", a.hostOf(ct.ID))
}

func printTop(a *app, o table.Options, ct container.Summary, titles []string, processes [][]string) error {
	cols := make([]table.Column[topRow], len(titles))
	for i, t := range titles {
		cols[i] = table.Column[topRow]{Head: t, Value: func(r topRow) string { return r[t] }}
	}
	if len(cols) > 0 {
		cols[len(cols)-1].Min = 20 // the command
	}
	rows := make([]topRow, 0, len(processes))
	for _, p := range processes {
		r := topRow{"Name": containerName(ct), "Node": a.hostOf(ct.ID), "Service": ct.Labels[labelService]}
		for i, t := range titles[:min(len(titles), len(p))] {
			r[t] = p[i]
		}
		rows = append(rows, r)
	}
	return table.Print(a.out, a.fit(o), rows, cols)
}

func waitCmd(a *app) *cobra.Command {
	var downAfter bool
	c := &cobra.Command{
		Use: "wait SERVICE...", Short: "Wait until the first of these services ends, and end with its exit code",
		Example: "  dhow wait tests", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := a.waitFirst(cmd.Context(), args)
			if err != nil {
				return err
			}
			if downAfter {
				if err := a.down(cmd.Context(), downFlags{}, nil); err != nil {
					return err
				}
			}
			fmt.Fprintln(a.out, code)
			if code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&downAfter, "down-project", false, "then remove the stack")
	return c
}

func (a *app) waitFirst(ctx context.Context, services []string) (int, error) {
	c, name, services, err := a.target(ctx, services)
	if err != nil {
		return 0, err
	}
	list, err := a.containers(ctx, c, name, services, true)
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, hinted{fmt.Errorf("no container of %s", strings.Join(services, ", ")), "dhow up -d " + strings.Join(services, " ")}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		id string
		client.Waited
	}
	ends := make(chan end, len(list))
	for _, ct := range list {
		ch, err := c.WaitContainer(ctx, ct.ID, runtime.WaitNotRunning)
		if err != nil {
			ends <- end{ct.ID, client.Waited{Err: err}}
			continue
		}
		go func() { ends <- end{ct.ID, <-ch} }()
	}
	var gone error
	for range list {
		e := <-ends
		if e.Err == nil || !a.lost(e.id, e.Err) {
			return e.Code, e.Err
		}
		gone = e.Err // its node has gone: the others are waited for
	}
	return 0, gone
}

func eventsCmd(a *app) *cobra.Command {
	var asJSON bool
	var since, until, format string
	c := &cobra.Command{
		Use: "events [SERVICE...]", Short: "Print what happens to the stack's containers, until Ctrl-C",
		Long: `Print what happens to the stack's containers on all nodes, until Ctrl-C. A node that does not answer
is left out until it is back: a line on standard error says so.`,
		Example: "  dhow events\n  dhow events --json --since 1h --until 0s", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch format {
			case "json":
				asJSON = true
			case "":
			default:
				return usagef("--format %s: use json", format)
			}
			now := time.Now()
			from, err := parseTime(since, now)
			if err != nil {
				return usagef("--since %s: %w", since, err)
			}
			to, err := parseTime(until, now)
			if err != nil {
				return usagef("--until %s: %w", until, err)
			}
			name, err := a.stackName(cmd.Context())
			if err != nil {
				return err
			}
			cl, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			f := client.Filters{"type": {"container"}, "label": {labelProject + "=" + name}}
			return a.eventsOfAll(cmd.Context(), cl, from, to, f, func(e api.EventMessage) error {
				if len(args) == 0 || slices.Contains(args, e.Actor.Attributes[labelService]) {
					return a.printEvent(e, asJSON)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one object a line")
	c.Flags().StringVar(&format, "format", "", "json: the same as --json")
	mustComplete(c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp)))
	c.Flags().StringVar(&since, "since", "", "from this time on: 2026-01-02T15:04:05Z, or 10m ago")
	c.Flags().StringVar(&until, "until", "", "up to this time, then end")
	return c
}

func (a *app) printEvent(e api.EventMessage, asJSON bool) error {
	attrs := map[string]string{}
	for k, v := range e.Actor.Attributes {
		if !strings.HasPrefix(k, "com.docker.compose.") {
			attrs[k] = v
		}
	}
	t := time.Unix(0, e.TimeNano)
	if asJSON {
		return json.NewEncoder(a.out).Encode(map[string]any{
			"time": t.Format(time.RFC3339Nano), "type": e.Type, "action": e.Action, "id": e.Actor.ID,
			"service": e.Actor.Attributes[labelService], "attributes": attrs,
		})
	}
	var parts []string
	for _, k := range sortedKeys(attrs) {
		parts = append(parts, k+"="+attrs[k])
	}
	_, err := fmt.Fprintf(a.out, "%s %s %s %s (%s)\n", t.Format("2006-01-02 15:04:05.000000"), e.Type, e.Action, e.Actor.ID[:min(12, len(e.Actor.ID))], strings.Join(parts, ", "))
	return err
}
