package main

import (
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

func networkCmd(a *app) *cobra.Command {
	return group("network", "Networks: list, inspect, create, remove", "  dhow network ls\n  dhow network inspect shop_front",
		networkLsCmd(a), networkInspectCmd(a), networkCreateCmd(a), networkRmCmd(a), networkPruneCmd(a))
}

// networkRow is a line of `dhow network ls`, with docker's field names.
type networkRow struct {
	ID, Name, Driver, Scope, Labels, Subnets string
	Internal, IPv6                           bool
}

func networkLsCmd(a *app) *cobra.Command {
	return nounLsCmd(a, nounList[network.Inspect, networkRow]{
		noun: "network", filters: "driver, id, label, name", list: (*client.Client).Networks, row: rowOfNetwork,
		columns: []table.Column[networkRow]{
			{Head: "NETWORK ID", Value: func(r networkRow) string { return r.ID }},
			{Head: "NAME", Value: func(r networkRow) string { return r.Name }, Min: 20},
			{Head: "DRIVER", Value: func(r networkRow) string { return r.Driver }},
			{Head: "SUBNETS", Value: func(r networkRow) string { return r.Subnets }, Min: 16},
		},
	})
}

func rowOfNetwork(n network.Inspect) networkRow {
	var subnets []string
	for _, cfg := range n.IPAM.Config {
		subnets = append(subnets, cfg.Subnet.String())
	}
	return networkRow{
		ID: shortID(n.ID), Name: n.Name, Driver: n.Driver, Scope: n.Scope, Labels: labelList(n.Labels),
		Subnets: strings.Join(subnets, ","), Internal: n.Internal, IPv6: n.EnableIPv6,
	}
}

func networkCreateCmd(a *app) *cobra.Command {
	var req network.CreateRequest
	var ipv6 bool
	var labels, opts map[string]string
	var ranges rangeFlags
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a network", Args: cobra.ExactArgs(1),
		Example: "  dhow network create --internal backend\n  dhow network create -d overlay --attachable shared\n" +
			"  dhow network create --subnet 10.20.0.0/16 --ip-range 10.20.5.0/24 --gateway 10.20.5.254 lan",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.IPAM, err = ranges.ipam(); err != nil {
				return err
			}
			req.Name, req.Labels, req.Options = args[0], labels, opts
			if ipv6 {
				req.EnableIPv6 = &ipv6
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			id, err := c.CreateNetwork(cmd.Context(), req)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, id)
			return nil
		},
	}
	ranges.register(c)
	c.Flags().StringVarP(&req.Driver, "driver", "d", "bridge", "bridge, or overlay: for services only, unless --attachable")
	mustComplete(c.RegisterFlagCompletionFunc("driver", cobra.FixedCompletions([]string{"bridge", "overlay"}, cobra.ShellCompDirectiveNoFileComp)))
	c.Flags().BoolVar(&req.Internal, "internal", false, "no way out of the network")
	c.Flags().BoolVar(&req.Attachable, "attachable", false, "containers made by hand may join an overlay network")
	c.Flags().BoolVar(&ipv6, "ipv6", false, "IPv6 addresses too")
	c.Flags().StringToStringVar(&labels, "label", nil, "KEY=VALUE")
	c.Flags().StringToStringVarP(&opts, "opt", "o", nil, "option of the driver: KEY=VALUE")
	return c
}

func networkRmCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NETWORK...", Short: "Remove networks that nothing uses", Args: cobra.MinimumNArgs(1), Aliases: []string{"remove"},
		Example: "  dhow network rm backend", ValidArgsFunction: a.completeNetworks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.removeEach(cmd, args, func(c *client.Client, name string) error { return c.RemoveNetwork(cmd.Context(), name) })
		},
	}
}

func networkPruneCmd(a *app) *cobra.Command {
	var force bool
	var filter []string
	c := &cobra.Command{
		Use: "prune", Short: "Remove networks that nothing uses and no stack owns", Args: cobra.NoArgs, Example: "  dhow network prune",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			rep, err := c.PruneNetworks(cmd.Context(), f)
			if err != nil {
				return err
			}
			for _, n := range rep.NetworksDeleted {
				fmt.Fprintln(a.out, "removed network", n)
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "accepted for scripts: dhow does not ask")
	c.Flags().StringArrayVar(&filter, "filter", nil, "label=KEY[=VALUE]")
	return c
}
