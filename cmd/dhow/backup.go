package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/internal/table"
)

func backupCmds(a *app) []*cobra.Command {
	return []*cobra.Command{backupCmd(a), backupsCmd(a), verifyCmd(a), restoreCmd(a), exportCmd(a), importCmd(a)}
}

// modeFlag is what happens to the containers that use a volume meanwhile.
func modeFlag(c *cobra.Command, mode *string, def string) {
	c.Flags().StringVar(mode, "users", def, "containers that use it meanwhile: live (run on), pause or stop; they always go on afterwards")
	mustComplete(c.RegisterFlagCompletionFunc("users", cobra.FixedCompletions([]string{"live", "pause", "stop"}, cobra.ShellCompDirectiveNoFileComp)))
}

func checkMode(mode string) (api.BackupMode, error) {
	if !slices.Contains([]string{"live", "pause", "stop"}, mode) {
		return "", usagef("--users %s: use live, pause or stop", mode)
	}
	return api.BackupMode(mode), nil
}

// repoArg makes a path absolute: the daemon has another working directory.
func repoArg(flag, repo string) (string, error) {
	if repo == "" {
		return "", usagef("%s REPO is missing: a directory, or file:// and one", flag)
	}
	if strings.Contains(repo, "://") {
		return repo, nil
	}
	return filepath.Abs(repo)
}

func backupCmd(a *app) *cobra.Command {
	var to, mode string
	c := &cobra.Command{
		Use: "backup VOLUME --to REPO", Short: "Save a volume into a repository", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		Example: "  dhow volume backup shop_db --to /backups\n  dhow volume backup shop_files --to /backups --users live",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := checkMode(mode)
			if err != nil {
				return err
			}
			repo, err := repoArg("--to", to)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			b, err := c.BackupVolume(cmd.Context(), args[0], api.BackupRequest{To: repo, Mode: m})
			if err != nil {
				return err
			}
			a.warn(b.Warnings)
			fmt.Fprintf(a.out, "%s\n", b.ID)
			fmt.Fprintf(a.err, "saved %s: %d files, %s (%s stored)\n", b.Volume, b.Files, units.HumanSize(float64(b.Bytes)), units.HumanSize(float64(b.Stored)))
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "repository: a directory on the daemon's machine")
	modeFlag(c, &mode, "pause")
	return c
}

func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(a.err, "warning:", w)
	}
}

func backupsCmd(a *app) *cobra.Command {
	var from string
	var o table.Options
	c := &cobra.Command{
		Use: "backups --from REPO [VOLUME]", Short: "List the backups in a repository", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeVolumes(1),
		Aliases: []string{"ls-backups"}, Example: "  dhow volume backups --from /backups shop_db",
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := repoArg("--from", from)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			list, err := c.Backups(cmd.Context(), repo, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return table.Print(a.out, a.fit(o), list, []table.Column[api.Backup]{
				{Head: "BACKUP", Value: func(b api.Backup) string { return b.ID }},
				{Head: "VOLUME", Value: func(b api.Backup) string { return b.Volume }, Min: 12},
				{Head: "CREATED", Value: func(b api.Backup) string { return units.HumanDuration(time.Since(b.Created)) + " ago" }},
				{Head: "FILES", Value: func(b api.Backup) string { return fmt.Sprint(b.Files) }},
				{Head: "SIZE", Value: func(b api.Backup) string { return units.HumanSize(float64(b.Bytes)) }},
				{Head: "STORED", Value: func(b api.Backup) string { return units.HumanSize(float64(b.Stored)) }},
				{Head: "PROBLEM", Value: func(b api.Backup) string { return b.Error }, Min: 10},
			})
		},
	}
	listFlags(c, &o)
	c.Flags().StringVar(&from, "from", "", "repository")
	return c
}

func verifyCmd(a *app) *cobra.Command {
	var from string
	var o table.Options
	c := &cobra.Command{
		Use: "verify --from REPO VOLUME|BACKUP", Short: "Read backups and compare every checksum", Args: cobra.ExactArgs(1),
		Example: "  dhow volume verify --from /backups shop_db",
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := repoArg("--from", from)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			checks, err := c.VerifyBackup(cmd.Context(), api.VerifyRequest{From: repo, Name: args[0]})
			if err != nil {
				return err
			}
			bad := 0
			for _, ch := range checks {
				if ch.Error != "" {
					bad++
				}
			}
			err = table.Print(a.out, a.fit(o), checks, []table.Column[api.BackupCheck]{
				{Head: "BACKUP", Value: func(c api.BackupCheck) string { return c.Backup.ID }},
				{Head: "RESULT", Value: func(c api.BackupCheck) string {
					if c.Error == "" {
						return "intact"
					}
					return "damaged: " + c.Error
				}, Min: 40},
			})
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d of %d backups are damaged", bad, len(checks))
			}
			return err
		},
	}
	listFlags(c, &o)
	c.Flags().StringVar(&from, "from", "", "repository")
	return c
}

func restoreCmd(a *app) *cobra.Command {
	var from, as, mode string
	c := &cobra.Command{
		Use: "restore --from REPO VOLUME|BACKUP [--as NEW]", Short: "Bring a volume back: its latest backup, or a certain one", Args: cobra.ExactArgs(1),
		Long:    "Bring a volume back.\nThe content is unpacked and checked beside the present one and then takes its place at once.",
		Example: "  dhow volume restore --from /backups shop_db\n  dhow volume restore --from /backups shop_db --as shop_db_yesterday",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := checkMode(mode)
			if err != nil {
				return err
			}
			repo, err := repoArg("--from", from)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.RestoreBackup(cmd.Context(), api.RestoreRequest{From: repo, Name: args[0], As: as, Mode: m})
			if err != nil {
				return err
			}
			a.warn(r.Warnings)
			fmt.Fprintf(a.out, "restored %s from %s: %d files, %s\n", r.Volume, r.Backup, r.Files, units.HumanSize(float64(r.Bytes)))
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", "", "repository")
	c.Flags().StringVar(&as, "as", "", "into a new volume of this name")
	modeFlag(c, &mode, "stop")
	return c
}

func exportCmd(a *app) *cobra.Command {
	var output, mode string
	c := &cobra.Command{
		Use: "export VOLUME", Short: "Write a volume as tar.zst", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		Example: "  dhow volume export shop_db -o shop_db.tar.zst\n  dhow volume export shop_db | ssh other dhow volume import shop_db",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			m, err := checkMode(mode)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			out := a.out
			if output != "" {
				f, err := os.Create(output)
				if err != nil {
					return err
				}
				defer func() {
					if err = errors.Join(err, f.Close()); err != nil {
						os.Remove(output)
					}
				}()
				out = f
			} else if _, tty := terminal(a.out); tty {
				return usagef("standard output is a terminal: name a file with --output, or use a pipe")
			}
			w := bufio.NewWriterSize(out, 1<<20)
			return errors.Join(c.ExportVolume(cmd.Context(), args[0], m, w), w.Flush())
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file (default: standard output)")
	modeFlag(c, &mode, "pause")
	return c
}

func importCmd(a *app) *cobra.Command {
	var input, mode string
	c := &cobra.Command{
		Use: "import VOLUME", Short: "Replace a volume's content by a tar, tar.gz or tar.zst", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		Example: "  dhow volume import shop_db -i shop_db.tar.zst",
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := checkMode(mode)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			in, err := a.input(input)
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := c.ImportVolume(cmd.Context(), args[0], m, in)
			if err != nil {
				return err
			}
			a.warn(r.Warnings)
			fmt.Fprintf(a.out, "imported %s: %d files, %s\n", r.Volume, r.Files, units.HumanSize(float64(r.Bytes)))
			return nil
		},
	}
	c.Flags().StringVarP(&input, "input", "i", "", "file (default: standard input)")
	modeFlag(c, &mode, "stop")
	return c
}
