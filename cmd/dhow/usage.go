package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is where help texts wrap when the terminal is wider.
const helpWidth = 100

// helpTexts makes help fit the terminal, and say where the global flags are told.
func (a *app) helpTexts(root *cobra.Command) {
	cobra.AddTemplateFunc("wrapped", func(f *pflag.FlagSet) string {
		return f.FlagUsagesWrapped(min(width(a.out), helpWidth))
	})
	text := strings.ReplaceAll(root.UsageTemplate(), ".LocalFlags.FlagUsages", "wrapped .LocalFlags")
	root.SetUsageTemplate(text + `{{if .HasParent}}
Global flags (-f, -p, --host, --env-file, --profile, ...): dhow --help
{{end}}`)
}

// onlyCommands refuses words that are no command, and says which one may be meant.
func onlyCommands(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	hint := c.CommandPath() + " --help"
	if near := nearest(args[0], names); near != "" {
		hint = c.CommandPath() + " " + near
	}
	return hinted{usagef("%s has no command %s", c.CommandPath(), args[0]), hint}
}

// checkArgs makes a wrong number of arguments a wrong use, with the usage in the error.
func checkArgs(c *cobra.Command) {
	if check := c.Args; check != nil && !c.HasSubCommands() {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) == nil {
				return nil
			}
			what := "too few arguments"
			if check(c, append(args, "")) != nil {
				what = "too many arguments"
			}
			return hinted{usagef("%s; usage: %s", what, c.UseLine()), c.CommandPath() + " --help"}
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}
