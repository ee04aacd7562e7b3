package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
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

	Node string // hostname; "" for one node alone
}

// nodeVolume is a volume and its node's hostname.
type nodeVolume struct {
	volume.Volume
	node string
}

// volumesOfAll lists the volumes of all nodes. Those that do not answer are left out, with a line that says so.
func (a *app) volumesOfAll(c *client.Client, ctx context.Context, f client.Filters) ([]nodeVolume, error) {
	peers, err := c.Peers(ctx)
	if err != nil || len(peers) < 2 { // a daemon without a part in clusters, or alone
		peers = []api.Peer{{Self: true}}
	}
	var mu sync.Mutex
	var all []nodeVolume
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range peers {
		g.Go(func() error {
			nctx, cancel := context.WithTimeout(gctx, answerTime)
			defer cancel()
			list, err := volumesFrom(nctx, c, p, f)
			if gctx.Err() == nil && gone(err, p) {
				a.leaveOut(p.Hostname, whyGone(p.Hostname, err))
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, v := range list {
				all = append(all, nodeVolume{v, p.Hostname})
			}
			return err
		})
	}
	err = g.Wait()
	slices.SortFunc(all, func(x, y nodeVolume) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.node, y.node))
	})
	return all, err
}

func volumesFrom(ctx context.Context, c *client.Client, p api.Peer, f client.Filters) ([]volume.Volume, error) {
	if p.Self {
		return c.Volumes(ctx, f)
	}
	return c.VolumesOf(ctx, p.ID, f)
}

func volumeLsCmd(a *app) *cobra.Command {
	return nounLsCmd(a, nounList[nodeVolume, volumeRow]{
		noun: "volume", filters: "dangling, driver, label, name", list: a.volumesOfAll,
		row: func(v nodeVolume) volumeRow {
			return volumeRow{Driver: v.Driver, Labels: labelList(v.Labels), Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Node: v.node}
		},
		node: func(r volumeRow) string { return r.Node },
		columns: []table.Column[volumeRow]{
			{Head: "NAME", Value: func(r volumeRow) string { return r.Name }, Min: 24},
			{Head: "DRIVER", Value: func(r volumeRow) string { return r.Driver }},
		},
	})
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
