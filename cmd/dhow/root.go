package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dhow-project/dhow/api/client"
)

// Groups of commands in the help text.
const (
	groupStack   = "stack"
	groupInside  = "inside"
	groupNode    = "node"
	groupCluster = "cluster"
)

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "dhow",
		Short: "Run stacks of containers from Compose files",
		Long: `Run stacks of containers from Compose files, with no Docker daemon.

The file is compose.yaml in this directory or one above, or what -f and COMPOSE_FILE name.`,
		Example: `  dhow up --wait            start the stack and wait until it serves
  dhow ps                   what runs
  dhow logs -f web          follow a service's output
  dhow plan                 what an up would change, and why
  dhow down                 stop and remove it; volumes stay`,
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true, // global flags stand before the command, where logs -f and dhow -f do not meet
		Version:          version,
		Args:             onlyCommands,
		RunE: func(c *cobra.Command, args []string) error {
			return c.Help()
		},
	}
	root.SetVersionTemplate("dhow {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return hinted{usageError{err}, c.CommandPath() + " --help"}
	})
	a.globalFlags(root.Flags())
	a.helpTexts(root)
	a.completeGlobalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupStack, Title: "Stacks:"},
		&cobra.Group{ID: groupInside, Title: "Inside a stack:"},
		&cobra.Group{ID: groupNode, Title: "This machine:"},
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupStack, upCmd(a), downCmd(a), planCmd(a), historyCmd(a), rollbackCmd(a), configCmd(a), psCmd(a), lsCmd(a), pullCmd(a), scaleCmd(a), waitCmd(a),
		startCmd(a), stopCmd(a), restartCmd(a), pauseCmd(a), unpauseCmd(a), killCmd(a), rmCmd(a))
	add(groupInside, logsCmd(a), execCmd(a), runCmd(a), cpCmd(a), topCmd(a), statsCmd(a), portCmd(a), eventsCmd(a))
	add(groupNode, imagesCmd(a), loadCmd(a), volumeCmd(a), networkCmd(a), systemCmd(a), infoCmd(a), daemonCmd(a), versionCmd(a))
	add(groupCluster, swarmCmd(a), nodeCmd(a))
	for _, c := range root.Commands() {
		a.acceptGlobalFlags(c)
	}
	checkArgs(root)
	return root
}

// globalFlags are those of every command.
func (a *app) globalFlags(f *pflag.FlagSet) {
	f.StringVarP(&a.host, "host", "H", "", "daemon to talk to: unix://PATH (DHOW_HOST; default "+client.DefaultHost+")")
	f.StringArrayVarP(&a.files, "file", "f", nil, "Compose file; several are merged, - is standard input (COMPOSE_FILE)")
	f.StringVarP(&a.project, "project-name", "p", "", "name of the stack (COMPOSE_PROJECT_NAME; default: name: in the file, then the directory)")
	f.StringVar(&a.projectDir, "project-directory", "", "base of relative paths (default: directory of the first file)")
	f.StringArrayVar(&a.envFiles, "env-file", nil, "file of variables, instead of .env")
	f.StringArrayVar(&a.profiles, "profile", nil, "enable services of this profile (COMPOSE_PROFILES)")
	f.StringVar(&a.ansi, "ansi", "auto", "colours and live progress: auto, never or always")
}

// acceptGlobalFlags lets global flags also stand behind the command, as far as
// it has no flag of the same name or letter. They are not listed again.
func (a *app) acceptGlobalFlags(c *cobra.Command) {
	global := pflag.NewFlagSet("", pflag.ContinueOnError)
	a.globalFlags(global)
	global.VisitAll(func(f *pflag.Flag) {
		if c.Flags().Lookup(f.Name) != nil {
			return
		}
		if c.Flags().ShorthandLookup(f.Shorthand) != nil {
			f.Shorthand = ""
		}
		f.Hidden = true
		c.Flags().AddFlag(f)
	})
	a.completeGlobalFlags(c)
	for _, sub := range c.Commands() {
		a.acceptGlobalFlags(sub)
	}
}

// mustComplete panics when a completion names a flag that does not exist: a bug that every run shows.
func mustComplete(err error) {
	if err != nil {
		panic(err)
	}
}

// group is a command that only holds others.
func group(use, short, example string, cmds ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: onlyCommands, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(cmds...)
	return c
}
