package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCmd(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  dhow version --format json",
		RunE: func(*cobra.Command, []string) error {
			switch format {
			case "json":
				return printJSON(a.out, map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			case "":
				fmt.Fprintf(a.out, "dhow %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}
			return usagef("--format %s: use json", format)
		},
	}
	c.Flags().StringVar(&format, "format", "", "json")
	return c
}
