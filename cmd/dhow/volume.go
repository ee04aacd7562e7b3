package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

func volumeCmd(a *app) *cobra.Command {
	c := group("volume", "Volumes: list, inspect, remove, back up, restore",
		"  dhow volume ls\n  dhow volume backup shop_db --to /backups\n  dhow volume restore --from /backups shop_db",
		volumeLsCmd(a), volumeInspectCmd(a), volumeCreateCmd(a), volumeRmCmd(a), volumePruneCmd(a))
	c.AddCommand(backupCmds(a)...)
	return c
}

// volumeRow is a line of `dhow volume ls`, with docker's field names.
type volumeRow struct {
	Driver, Labels, Mountpoint, Name, Scope string
}

func volumeLsCmd(a *app) *cobra.Command {
	var o table.Options
	var filter []string
	c := &cobra.Command{
		Use: "ls", Short: "List volumes", Args: cobra.NoArgs, Example: "  dhow volume ls --filter label=com.docker.compose.project=shop",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Volumes(cmd.Context(), f)
			if err != nil {
				return err
			}
			var rows []volumeRow
			for _, v := range list {
				rows = append(rows, volumeRow{Driver: v.Driver, Labels: labelList(v.Labels), Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope})
			}
			return table.Print(a.out, a.fit(o), rows, []table.Column[volumeRow]{
				{Head: "NAME", Value: func(r volumeRow) string { return r.Name }, Min: 24},
				{Head: "DRIVER", Value: func(r volumeRow) string { return r.Driver }},
			})
		},
	}
	listFlags(c, &o)
	c.Flags().StringArrayVar(&filter, "filter", nil, "KEY=VALUE: dangling, driver, label, name")
	return c
}

func labelList(m map[string]string) string {
	var parts []string
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
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

func volumeInspectCmd(a *app) *cobra.Command {
	return inspectCmd(a, "volume", a.completeVolumes(-1), func(cmd *cobra.Command, c *client.Client, name string) (any, error) {
		return c.Volume(cmd.Context(), name)
	})
}

func volumeCreateCmd(a *app) *cobra.Command {
	var req volume.CreateRequest
	var opts, labels map[string]string
	c := &cobra.Command{
		Use: "create [NAME]", Short: "Create a volume", Args: cobra.MaximumNArgs(1),
		Example: "  dhow volume create data\n  dhow volume create -o type=tmpfs -o device=tmpfs -o o=size=64m scratch",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Name = args[0]
			}
			req.DriverOpts, req.Labels = opts, labels
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.CreateVolume(cmd.Context(), req)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, v.Name)
			return nil
		},
	}
	c.Flags().StringVarP(&req.Driver, "driver", "d", "local", "volume driver")
	c.Flags().StringToStringVarP(&opts, "opt", "o", nil, "option of the driver: KEY=VALUE")
	c.Flags().StringToStringVar(&labels, "label", nil, "KEY=VALUE")
	return c
}

func volumeRmCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm VOLUME...", Short: "Remove volumes that nothing uses, with their data", Args: cobra.MinimumNArgs(1),
		Aliases: []string{"remove"}, Example: "  dhow volume rm shop_cache", ValidArgsFunction: a.completeVolumes(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.removeEach(cmd, args, func(c *client.Client, name string) error { return c.RemoveVolume(cmd.Context(), name, force) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "a volume that is not there is no error")
	return c
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

func volumePruneCmd(a *app) *cobra.Command {
	var all, force bool
	var filter []string
	c := &cobra.Command{
		Use: "prune", Short: "Remove anonymous volumes that nothing uses", Args: cobra.NoArgs,
		Long:    "Remove anonymous volumes that nothing uses.\nNamed ones go only with --all: what they hold cannot be had back.",
		Example: "  dhow volume prune\n  dhow volume prune --all --filter label=scratch",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			if all && !force {
				if err := a.confirm("All volumes that no container uses, also named ones, are removed with their data."); err != nil {
					return err
				}
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			rep, err := c.PruneVolumes(cmd.Context(), all, f)
			if err != nil {
				return err
			}
			return a.printPrune("volume", rep.VolumesDeleted, rep.SpaceReclaimed)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also named volumes")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&filter, "filter", nil, "label=KEY[=VALUE]")
	return c
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
