package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

type configFlags struct {
	format, output                                       string
	quiet, services, images, volumes, networks, profiles bool
	hash                                                 string
}

func configCmd(a *app) *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use: "config [SERVICE...]", Short: "Check the file and print it as dhow understands it",
		Example: `  dhow config                 the resolved file
  dhow config -q              only check
  dhow config --services
  dhow config --hash '*'      what decides whether a service is recreated`,
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.config(cmd.Context(), f, args) },
	}
	fl := c.Flags()
	fl.StringVar(&f.format, "format", "yaml", "yaml or json")
	fl.StringVarP(&f.output, "output", "o", "", "write to this file")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing, only check")
	fl.BoolVar(&f.services, "services", false, "print the names of the services")
	fl.BoolVar(&f.images, "images", false, "print the images")
	fl.BoolVar(&f.volumes, "volumes", false, "print the names of the volumes")
	fl.BoolVar(&f.networks, "networks", false, "print the names of the networks")
	fl.BoolVar(&f.profiles, "profiles", false, "print the profiles")
	fl.StringVar(&f.hash, "hash", "", "print the hash of a service, or of all with '*'")
	c.MarkFlagsMutuallyExclusive("quiet", "services", "images", "volumes", "networks", "profiles", "hash")
	return c
}

func (a *app) config(ctx context.Context, f configFlags, args []string) error {
	p, err := a.load(ctx, args...)
	if err != nil {
		return err
	}
	lines := func(ss []string) error {
		for _, s := range ss {
			fmt.Fprintln(a.out, s)
		}
		return nil
	}
	switch {
	case f.quiet:
		return nil
	case f.services:
		return lines(sortedKeys(p.Stack.Services))
	case f.volumes:
		return lines(p.Volumes())
	case f.networks:
		return lines(p.Networks())
	case f.profiles:
		return lines(p.Profiles)
	case f.images:
		return lines(p.Images())
	case f.hash != "":
		return a.printHashes(p.Stack.ServiceHash, sortedKeys(p.Stack.Services), f.hash)
	}
	data, err := p.YAML()
	switch f.format {
	case "yaml":
	case "json":
		data, err = p.JSON()
	default:
		return usagef("--format %s: use yaml or json", f.format)
	}
	if err != nil {
		return err
	}
	if f.output != "" {
		return os.WriteFile(f.output, data, 0o644)
	}
	_, err = a.out.Write(data)
	return err
}

func (a *app) printHashes(hash func(string) string, services []string, which string) error {
	found := false
	for _, s := range services {
		if which == "*" || which == s {
			found = true
			fmt.Fprintln(a.out, s, hash(s))
		}
	}
	if !found {
		return fmt.Errorf("no service %s in the file", which)
	}
	return nil
}
