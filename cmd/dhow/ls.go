package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/internal/table"
)

// stackRow is a line of `dhow ls`, with docker compose's field names.
type stackRow struct {
	Name        string
	Status      string
	ConfigFiles string
}

func lsCmd(a *app) *cobra.Command {
	var o table.Options
	c := &cobra.Command{
		Use: "ls", Short: "List stacks", Example: "  dhow ls\n  dhow ls --format json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			stacks, err := c.Stacks(cmd.Context())
			if err != nil {
				return err
			}
			rows := make([]stackRow, 0, len(stacks))
			for _, s := range stacks {
				rows = append(rows, stackRow{Name: s.Stack.Name, Status: stackWord(s), ConfigFiles: strings.Join(s.Stack.Files, ",")})
			}
			return table.Print(a.out, a.fit(o), rows, []table.Column[stackRow]{
				{Head: "NAME", Value: func(r stackRow) string { return r.Name }},
				{Head: "STATUS", Value: func(r stackRow) string { return r.Status }},
				{Head: "CONFIG FILES", Value: func(r stackRow) string { return r.ConfigFiles }, Min: 20},
			})
		},
	}
	listFlags(c, &o)
	c.Flags().BoolP("all", "a", true, "accepted for scripts: stopped stacks are always listed, too")
	return c
}

// listFlags are those of every list.
func listFlags(c *cobra.Command, o *table.Options) {
	c.Flags().StringVar(&o.Format, "format", "", "table (default), json (one object a line), or a Go template")
	c.Flags().BoolVarP(&o.Quiet, "quiet", "q", false, "only names or IDs")
	mustComplete(c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)))
}

// fit completes o with the terminal's width. In a pipe nothing is cut.
func (a *app) fit(o table.Options) table.Options {
	o.Width = -1
	if _, tty := terminal(a.out); tty {
		o.Width = width(a.out)
	}
	return o
}

// stackWord is "running(3), exited(1)".
func stackWord(s api.StackStatus) string {
	if s.Removing {
		return "removing"
	}
	count := map[string]int{}
	for _, t := range s.Tasks {
		count[taskWord(s, t)]++
	}
	var parts []string
	for _, k := range sortedKeys(count) {
		parts = append(parts, fmt.Sprintf("%s(%d)", k, count[k]))
	}
	return strings.Join(parts, ", ")
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
