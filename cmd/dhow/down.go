package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
)

type downFlags struct {
	volumes, removeOrphans bool
	rmi                    string
	grace                  seconds
}

func downCmd(a *app) *cobra.Command {
	var f downFlags
	c := &cobra.Command{
		Use:   "down [SERVICE...]",
		Short: "Stop and remove the stack; volumes stay unless -v",
		Long: `Stop and remove the stack's containers and networks, dependents first.

Volumes stay: -v removes those that the stack declares and the anonymous ones of its containers,
never external ones.`,
		Example: `  dhow down
  dhow down -v              and delete its volumes
  dhow -p shop down         without the file at hand`,
		ValidArgsFunction: a.completeServices,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.down(cmd.Context(), f, args) },
	}
	fl := c.Flags()
	fl.BoolVarP(&f.volumes, "volumes", "v", false, "also remove the stack's volumes")
	fl.StringVar(&f.rmi, "rmi", "", "also remove images of services: `all`, or local: those built without a name (none yet)")
	fl.BoolVar(&f.removeOrphans, "remove-orphans", false, "also remove services that the file no longer has (down of a whole stack does so anyway)")
	fl.VarP(&f.grace, "timeout", "t", "`seconds` that containers get to stop, over their own stop_grace_period")
	mustComplete(c.RegisterFlagCompletionFunc("rmi", cobra.FixedCompletions([]string{"all", "local"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func (a *app) down(ctx context.Context, f downFlags, services []string) error {
	if f.rmi != "" && f.rmi != "all" && f.rmi != "local" {
		return usagef("--rmi %s: use all or local", f.rmi)
	}
	name, err := a.stackName(ctx)
	if err != nil {
		return err
	}
	c, err := a.daemonClient(ctx)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		if err := a.removeOneOffs(ctx, c, name, f); err != nil {
			return err
		}
	}
	st, err := c.Stack(ctx, name)
	if client.IsNotFound(err) {
		fmt.Fprintf(a.err, "stack %s does not run\n", name)
		return a.removeLeftVolumes(ctx, c, f, name, services)
	}
	if err != nil {
		return err
	}
	if len(services) > 0 {
		if services, err = a.services(ctx, c, name, services); err != nil {
			return err
		}
	}
	opt := client.RemoveOptions{Volumes: f.volumes, Services: services, Grace: f.grace.value()}
	if err := c.RemoveStack(ctx, name, opt); err != nil && !client.IsNotFound(err) {
		return err
	}
	if err := a.removed(ctx, c, name, services); err != nil {
		return err
	}
	if len(services) == 0 {
		if err := a.tellLeftNetworks(ctx, c, st); err != nil {
			return err
		}
	}
	if f.volumes && len(services) == 0 {
		if err := a.removeVolumes(ctx, c, st); err != nil {
			return err
		}
	}
	return a.removeImages(ctx, c, f, st, services)
}

// removeOneOffs removes what `dhow run` left: it uses the stack's networks and volumes.
func (a *app) removeOneOffs(ctx context.Context, c *client.Client, name string, f downFlags) error {
	found, missing, err := c.ContainersEverywhere(ctx, client.ListOptions{All: true, Filters: client.Filters{"label": {labelProject + "=" + name, labelOneOff + "=True"}}})
	if err != nil {
		return err
	}
	a.learn(found, missing)
	g, gctx := errgroup.WithContext(ctx)
	for _, one := range found {
		ct := one.Summary
		g.Go(func() error {
			if err := c.StopContainer(gctx, ct.ID, "", f.grace.value()); err != nil && !client.IsNotFound(err) {
				return err
			}
			err := c.RemoveContainer(gctx, ct.ID, runtime.RemoveOptions{Force: true, Volumes: f.volumes})
			if err != nil && !client.IsNotFound(err) {
				return err
			}
			fmt.Fprintln(a.err, "removed container", containerName(ct))
			return nil
		})
	}
	return g.Wait()
}

// removed shows progress until the stack, or these services of it, are gone.
func (a *app) removed(ctx context.Context, c *client.Client, name string, services []string) error {
	w := watch{app: a, client: c, stack: name, services: services, goal: isGone}
	return w.run(ctx)
}

// tellLeftNetworks names the networks that stay, as containers are in them that
// are none of the stack's.
func (a *app) tellLeftNetworks(ctx context.Context, c *client.Client, st api.StackStatus) error {
	for _, key := range sortedKeys(st.Stack.Networks) {
		n := st.Stack.Networks[key]
		if n.External {
			continue
		}
		v, err := c.NetworkView(ctx, n.Name)
		if client.IsNotFound(err) || err == nil && v.Network.Stack != st.Stack.Name {
			continue
		}
		if err != nil {
			return err
		}
		var who []string
		for _, e := range v.Endpoints {
			if e.Owner() != st.Stack.Name {
				who = append(who, e.Name)
			}
		}
		if len(who) == 0 {
			continue
		}
		fmt.Fprintf(a.err, "network %s stays, as others are in it (%s): dhow network rm %s removes it when they have gone\n", n.Name, strings.Join(who, ", "), n.Name)
	}
	return nil
}

// removeVolumes removes the volumes that a stack declares, but external ones.
func (a *app) removeVolumes(ctx context.Context, c *client.Client, st api.StackStatus) error {
	var errs []error
	for _, key := range sortedKeys(st.Stack.Volumes) {
		v := st.Stack.Volumes[key]
		if v.External {
			continue
		}
		switch err := c.RemoveVolumeEverywhere(ctx, v.Name); {
		case err == nil:
			fmt.Fprintln(a.err, "removed volume", v.Name)
		case !client.IsNotFound(err):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeLeftVolumes serves a `down -v` that comes after a `down`: the file still says which volumes there were.
func (a *app) removeLeftVolumes(ctx context.Context, c *client.Client, f downFlags, name string, services []string) error {
	if !f.volumes || len(services) > 0 {
		return nil
	}
	p, err := a.load(ctx)
	if err != nil {
		return hinted{fmt.Errorf("which volumes stack %s had is not known without its file: %w", name, err), "dhow volume ls --filter label=" + labelProject + "=" + name}
	}
	if p.Stack.Name != name {
		return nil
	}
	return a.removeVolumes(ctx, c, api.StackStatus{Stack: p.Stack})
}

func (a *app) removeImages(ctx context.Context, c *client.Client, f downFlags, st api.StackStatus, services []string) error {
	if f.rmi != "all" {
		return nil // local means what was built for a service without a name of its own: dhow builds none yet
	}
	chosen := map[string]bool{}
	for _, s := range services {
		chosen[s] = true
	}
	refs := map[string]bool{}
	for name, s := range st.Stack.Services {
		if len(services) == 0 || chosen[name] {
			refs[s.Container.Image] = true
		}
	}
	var errs []error
	for _, ref := range sortedKeys(refs) {
		switch _, err := c.RemoveImage(ctx, ref, false, false); {
		case err == nil:
			fmt.Fprintln(a.err, "removed image", ref)
		case !client.IsNotFound(err):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
