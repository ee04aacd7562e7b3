package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

func snapshotCmd(a *app) *cobra.Command {
	return group("snapshot", "Snapshots of the cluster's state: save, restore, inspect", "  dhow swarm snapshot save state.snap",
		snapshotSaveCmd(a), snapshotRestoreCmd(a), snapshotInspectCmd(a))
}

func snapshotSaveCmd(a *app) *cobra.Command {
	var how client.Reading
	c := &cobra.Command{
		Use: "save FILE", Short: "Write all that the cluster knows to a file", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Write all that the cluster knows to a file: stacks, services, nodes, networks, secrets, the
authority. Volumes are not in it. The file holds keys: keep it as safe as the managers. - is
standard output.`,
		Example: "  dhow swarm snapshot save state.snap\n  dhow swarm snapshot save - | age -r KEY > state.snap.age",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return c.SaveSnapshot(cmd.Context(), a.out, how)
			}
			return saveSnapshot(cmd.Context(), c, args[0], how)
		},
	}
	staleFlag(c, &how)
	return c
}

// saveSnapshot writes a whole file, or none.
func saveSnapshot(ctx context.Context, c *client.Client, path string, how client.Reading) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // readable by its owner only
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is there only when something failed
	err = c.SaveSnapshot(ctx, f, how)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func snapshotRestoreCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Replace all that the cluster knows by a saved snapshot", Args: cobra.ExactArgs(1),
		Long: `Replace all that the cluster knows by a saved snapshot. What was applied since is undone: containers
of stacks that the snapshot does not have are removed, others come back. Volumes keep their data.`,
		Example: "  dhow swarm snapshot restore state.snap",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // it is only read
			if !force {
				if err := a.confirm("All that the cluster knows is replaced by what " + args[0] + " holds."); err != nil {
					return err
				}
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.RestoreSnapshot(cmd.Context(), f); err != nil {
				return err
			}
			fmt.Fprintln(a.out, "Snapshot restored.")
			return nil
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return c
}

func snapshotInspectCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect FILE", Short: "Check a saved snapshot and tell what is in it", Args: cobra.ExactArgs(1),
		Example: "  dhow swarm snapshot inspect state.snap --format json",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // it is only read
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			info, err := c.InspectSnapshot(cmd.Context(), f)
			if err != nil {
				return err
			}
			if format != "" {
				return table.Print(a.out, table.Options{Format: format}, []any{info}, []table.Column[any]{{Value: func(v any) string { return fmt.Sprint(v) }}})
			}
			for _, l := range [][2]string{
				{"cluster", info.Cluster}, {"index", fmt.Sprintf("%d, term %d", info.Index, info.Term)}, {"size", units.BytesSize(float64(info.Size))},
				{"holds", fmt.Sprintf("%d nodes, %d stacks, %d services, %d tasks", info.Nodes, info.Stacks, info.Services, info.Tasks)},
			} {
				fmt.Fprintf(a.out, "%-12s%s\n", l[0], l[1])
			}
			if info.Created != 0 {
				fmt.Fprintf(a.out, "%-12s%s\n", "saved", time.Unix(0, info.Created).Format("2006-01-02 15:04:05"))
			}
			if info.Checksum != "" {
				fmt.Fprintf(a.out, "%-12s%s\n", "checksum", info.Checksum)
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "", "json, or a Go template")
	return c
}
