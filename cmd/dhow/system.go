package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
	"github.com/dhow-project/dhow/runtime"
)

func systemCmd(a *app) *cobra.Command {
	return group("system", "The daemon: facts, disk use, clean-up", "  dhow system df\n  dhow system prune",
		infoCmd(a), dfCmd(a), pruneCmd(a), resetCmd(a))
}

func infoCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "info", Short: "Print facts about the daemon and its machine", Args: cobra.NoArgs, Example: "  dhow system info --format json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			sys, err := c.System(cmd.Context())
			if err != nil {
				return err
			}
			info, err := c.Info(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(a.out, map[string]any{"daemon": sys, "machine": info})
			}
			if format != "" {
				return table.Print(a.out, table.Options{Format: format}, []any{info}, []table.Column[any]{})
			}
			for _, l := range [][2]string{
				{"daemon", "dhow " + sys.Version + ", process " + fmt.Sprint(sys.Pid) + ", since " + sys.Started.Format("2006-01-02 15:04:05")},
				{"socket", c.Host()}, {"data", sys.DataDir}, {"run", sys.RunDir}, {"node", sys.ID},
				{"machine", fmt.Sprintf("%s: %s, kernel %s, %d CPUs, %s", info.Name, info.OperatingSystem, info.KernelVersion, info.NCPU, units.BytesSize(float64(info.MemTotal)))},
				{"containers", fmt.Sprintf("%d running, %d paused, %d stopped", info.ContainersRunning, info.ContainersPaused, info.ContainersStopped)},
				{"images", fmt.Sprint(info.Images)}, {"storage", info.Driver}, {"cgroups", "v" + info.CgroupVersion + ", " + info.CgroupDriver},
				{"runtime", info.DefaultRuntime}, {"cluster", clusterWords(info.Swarm)},
			} {
				fmt.Fprintf(a.out, "%-12s%s\n", l[0], l[1])
			}
			for _, w := range info.Warnings {
				fmt.Fprintln(a.out, "warning:", w)
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "", "json, or a Go template over Docker's info")
	return c
}

// clusterWords are a node's place in its cluster: "manager, 5 nodes, 3 managers".
func clusterWords(s swarm.Info) string {
	switch {
	case s.LocalNodeState == swarm.LocalNodeStateInactive || s.LocalNodeState == "":
		return "this machine alone (dhow swarm init opens it to others)"
	case s.LocalNodeState != swarm.LocalNodeStateActive:
		return string(s.LocalNodeState) + suffix(": ", s.Error)
	case !s.ControlAvailable:
		return fmt.Sprintf("worker at %s, %d managers", s.NodeAddr, len(s.RemoteManagers))
	}
	return fmt.Sprintf("manager at %s, %d nodes, %d of them managers", s.NodeAddr, s.Nodes, s.Managers)
}

// dfRow is a line of `dhow system df`, with docker's field names.
type dfRow struct {
	Type        string
	TotalCount  int
	Active      int
	Size        string
	Reclaimable string
}

func dfCmd(a *app) *cobra.Command {
	var o table.Options
	c := &cobra.Command{
		Use: "df", Short: "Show where the space goes", Args: cobra.NoArgs, Example: "  dhow system df",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			du, err := c.DiskUsage(cmd.Context())
			if err != nil {
				return err
			}
			return table.Print(a.out, a.fit(o), dfRows(du), []table.Column[dfRow]{
				{Head: "TYPE", Value: func(r dfRow) string { return r.Type }},
				{Head: "TOTAL", Value: func(r dfRow) string { return fmt.Sprint(r.TotalCount) }},
				{Head: "ACTIVE", Value: func(r dfRow) string { return fmt.Sprint(r.Active) }},
				{Head: "SIZE", Value: func(r dfRow) string { return r.Size }},
				{Head: "RECLAIMABLE", Value: func(r dfRow) string { return r.Reclaimable }},
			})
		},
	}
	listFlags(c, &o)
	return c
}

func dfRows(du api.DiskUsage) []dfRow {
	row := func(kind string, total, active int, size, free int64) dfRow {
		percent := ""
		if size > 0 {
			percent = fmt.Sprintf(" (%d%%)", free*100/size)
		}
		return dfRow{kind, total, active, units.HumanSize(float64(size)), units.HumanSize(float64(max(free, 0))) + percent}
	}
	used := map[string]bool{}
	var running int
	var csize, cfree int64
	for _, ct := range du.Containers {
		used[ct.ImageID] = true
		csize += ct.SizeRw
		if ct.State == container.StateRunning || ct.State == container.StatePaused {
			running++
		} else {
			cfree += ct.SizeRw
		}
	}
	var active int
	var ifree int64
	for _, img := range du.Images {
		if used[img.ID] {
			active++
		} else {
			ifree += img.Size - max(img.SharedSize, 0)
		}
	}
	var vsize, vfree int64
	var vused int
	for _, v := range du.Volumes {
		if v.UsageData == nil {
			continue
		}
		vsize += max(v.UsageData.Size, 0)
		if v.UsageData.RefCount > 0 {
			vused++
		} else {
			vfree += max(v.UsageData.Size, 0)
		}
	}
	return []dfRow{
		row("Images", len(du.Images), active, du.LayersSize, ifree),
		row("Containers", len(du.Containers), running, csize, cfree),
		row("Local Volumes", len(du.Volumes), vused, vsize, vfree),
	}
}

func pruneCmd(a *app) *cobra.Command {
	var all, volumes, force bool
	c := &cobra.Command{
		Use: "prune", Short: "Remove stopped containers, unused networks and images without a name", Args: cobra.NoArgs,
		Example: "  dhow system prune\n  dhow system prune --all     also images that no container uses",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				if err := a.confirm("Stopped containers that no stack owns, unused networks and unused images are removed."); err != nil {
					return err
				}
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			return a.prune(cmd.Context(), c, all, volumes)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also images with a name that no container uses")
	c.Flags().BoolVar(&volumes, "volumes", false, "also anonymous volumes that nothing uses")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return c
}

func (a *app) prune(ctx context.Context, c *client.Client, all, volumes bool) error {
	var names []string
	var space uint64
	ct, err := c.PruneContainers(ctx, client.Filters{"label!": {labelProject}})
	if err != nil {
		return err
	}
	names, space = append(names, ct.ContainersDeleted...), space+ct.SpaceReclaimed
	nw, err := c.PruneNetworks(ctx, nil)
	if err != nil {
		return err
	}
	names = append(names, nw.NetworksDeleted...)
	if volumes {
		v, err := c.PruneVolumes(ctx, false, nil)
		if err != nil {
			return err
		}
		names, space = append(names, v.VolumesDeleted...), space+v.SpaceReclaimed
	}
	img, err := c.PruneImages(ctx, all, nil)
	if err != nil {
		return err
	}
	for _, d := range img.ImagesDeleted {
		names = append(names, strings.TrimSpace(d.Untagged+" "+d.Deleted))
	}
	return a.printPrune("", names, space+img.SpaceReclaimed)
}

func resetCmd(a *app) *cobra.Command {
	var volumes, force bool
	c := &cobra.Command{
		Use: "reset", Short: "Leave the cluster, remove all stacks and containers here; volumes and images stay", Args: cobra.NoArgs,
		Example: "  dhow system reset\n  dhow system reset --volumes     and every volume, with its data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				if err := a.confirm("All stacks and containers of this daemon are removed."); err != nil {
					return err
				}
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			return a.reset(cmd.Context(), c, volumes)
		},
	}
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "also all volumes, with their data")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return c
}

// reset does not need the others of a cluster: this machine leaves it first,
// and is alone then.
func (a *app) reset(ctx context.Context, c *client.Client, volumes bool) error {
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	if info.Swarm.LocalNodeState != "" && info.Swarm.LocalNodeState != "inactive" {
		if err := c.LeaveSwarm(ctx, true); err != nil {
			return err
		}
	}
	stacks, err := c.Stacks(ctx)
	if err != nil {
		return err
	}
	for _, s := range stacks {
		if err := c.RemoveStack(ctx, s.Stack.Name, client.RemoveOptions{Volumes: true}); err != nil && !client.IsNotFound(err) {
			return err
		}
	}
	for _, s := range stacks {
		if err := a.removed(ctx, c, s.Stack.Name, nil); err != nil {
			return err
		}
	}
	list, err := c.Containers(ctx, client.ListOptions{All: true})
	if err != nil {
		return err
	}
	var errs []error
	for _, ct := range list {
		if err := c.RemoveContainer(ctx, ct.ID, runtime.RemoveOptions{Force: true, Volumes: true}); err != nil && !client.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if volumes {
		_, err := c.PruneVolumes(ctx, true, nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
