package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

// nounList is the list of a noun: what to ask for and how to show it.
type nounList[Item, Row any] struct {
	noun    string // "volume"
	filters string // keys that --filter takes
	list    func(*client.Client, context.Context, client.Filters) ([]Item, error)
	row     func(Item) Row
	columns []table.Column[Row]
	node    func(Row) string // the node of an item, "" where there is but one; may be nil
}

func nounLsCmd[Item, Row any](a *app, n nounList[Item, Row]) *cobra.Command {
	var o table.Options
	var filter []string
	c := &cobra.Command{
		Use: "ls", Short: "List " + n.noun + "s", Args: cobra.NoArgs,
		Example: "  dhow " + n.noun + " ls\n  dhow " + n.noun + " ls --filter label=com.docker.compose.project=shop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			items, err := n.list(c, cmd.Context(), f)
			if err != nil {
				return err
			}
			var rows []Row
			for _, item := range items {
				rows = append(rows, n.row(item))
			}
			columns := n.columns
			if n.node != nil && slices.ContainsFunc(rows, func(r Row) bool { return n.node(r) != "" }) {
				columns = slices.Insert(slices.Clone(columns), 1, table.Column[Row]{Head: "NODE", Value: n.node})
			}
			return table.Print(a.out, a.fit(o), rows, columns)
		},
	}
	listFlags(c, &o)
	c.Flags().StringArrayVar(&filter, "filter", nil, "KEY=VALUE: "+n.filters)
	return c
}

func parseFilters(args []string) (client.Filters, error) {
	f := client.Filters{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef("--filter %s: use KEY=VALUE", arg)
		}
		f[k] = append(f[k], v)
	}
	return f, nil
}

func labelList(m map[string]string) string {
	var parts []string
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}

// inspectCmd prints what the daemon knows of each argument as one JSON list.
func inspectCmd(a *app, what string, complete completion, get func(cmd *cobra.Command, c *client.Client, name string) (any, error)) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect " + strings.ToUpper(what) + "...", Short: "Print all that is known of a " + what, Args: cobra.MinimumNArgs(1), ValidArgsFunction: complete,
		Example: "  dhow " + what + " inspect NAME\n  dhow " + what + " inspect --format '{{.Labels}}' NAME",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			var found []any
			var errs []error
			for _, name := range args {
				v, err := get(cmd, c, name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				found = append(found, v)
			}
			if format != "" {
				if found, err = decoded(found); err != nil {
					return err
				}
				err = table.Print(a.out, table.Options{Format: format}, found, []table.Column[any]{{Value: func(v any) string { return fmt.Sprint(v) }}})
			} else if found != nil {
				err = printJSON(a.out, found)
			}
			return errors.Join(append(errs, err)...)
		},
	}
	c.Flags().StringVar(&format, "format", "", "json (one object a line), or a Go template")
	return c
}

// decoded makes values whose fields a template can name of answers that are kept as they came.
func decoded(found []any) ([]any, error) {
	for i, v := range found {
		raw, ok := v.(json.RawMessage)
		if !ok {
			continue
		}
		var fields any
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, err
		}
		found[i] = fields
	}
	return found, nil
}

// removeEach removes all it can and reports every failure.
func (a *app) removeEach(cmd *cobra.Command, names []string, remove func(c *client.Client, name string) error) error {
	c, err := a.daemonClient(cmd.Context())
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := remove(c, name); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(a.out, name)
	}
	return errors.Join(errs...)
}

func (a *app) printPrune(what string, names []string, space uint64) error {
	for _, n := range names {
		fmt.Fprintln(a.out, "removed", what, n)
	}
	_, err := fmt.Fprintf(a.out, "reclaimed %s\n", units.HumanSize(float64(space)))
	return err
}

// confirm asks on a terminal; without one the user must say --force.
func (a *app) confirm(what string) error {
	if _, tty := terminal(a.in); !tty {
		return hinted{errors.New(what), "the same with --force: standard input is no terminal to ask on"}
	}
	fmt.Fprintf(a.err, "%s Go on? [y/N] ", what)
	var answer string
	_, _ = fmt.Fscanln(a.in, &answer) // no answer is no
	if strings.ToLower(answer) != "y" && strings.ToLower(answer) != "yes" {
		return errors.New("nothing was removed")
	}
	return nil
}
