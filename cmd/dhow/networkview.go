package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
	"github.com/dhow-project/dhow/stack"
)

// networkDetails is what docker's client prints of a network, and what it does not know.
type networkDetails struct {
	network.Inspect
	VNI       int                    `json:",omitempty"`
	Virtual   []string               // ranges of virtual addresses
	Nodes     []stack.NetworkNode    // that have containers in it
	Services  []stack.ServiceAddress // with their virtual addresses
	Endpoints []stack.Endpoint       // on all nodes
	Waiting   []string               // what is not as it should be
}

func networkInspectCmd(a *app) *cobra.Command {
	var pretty bool
	c := inspectCmd(a, "network", a.completeNetworks(), func(cmd *cobra.Command, c *client.Client, name string) (any, error) {
		n, err := c.Network(cmd.Context(), name)
		if err != nil {
			return nil, err
		}
		d := networkDetails{Inspect: n}
		if builtin := n.Driver == "host" || n.Driver == "null"; !builtin {
			v, err := c.NetworkView(cmd.Context(), n.ID)
			if err != nil {
				return nil, err
			}
			d.VNI, d.Virtual, d.Nodes, d.Services, d.Endpoints, d.Waiting = v.Network.VNI, v.Network.Virtual, v.Nodes, v.Services, v.Endpoints, v.Waiting
		}
		return d, nil
	})
	c.Example = "  dhow network inspect shop_front --pretty\n  dhow network inspect --format '{{.VNI}}' shop_front"
	plain := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !pretty {
			return plain(cmd, args)
		}
		c, err := a.daemonClient(cmd.Context())
		if err != nil {
			return err
		}
		for i, name := range args {
			v, err := c.NetworkView(cmd.Context(), name)
			if err != nil {
				return err
			}
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			if err := a.printNetwork(v); err != nil {
				return err
			}
		}
		return nil
	}
	c.Flags().BoolVar(&pretty, "pretty", false, "for people instead of JSON")
	return c
}

func (a *app) printNetwork(v stack.NetworkView) error {
	n := v.Network
	lines := [][2]string{{"network", n.Name}, {"id", shortID(n.ID)}, {"stack", n.Stack}, {"subnets", subnetList(n.Subnets)}, {"virtual", strings.Join(n.Virtual, ", ")}}
	if n.VNI != 0 {
		lines = append(lines, [2]string{"vni", fmt.Sprint(n.VNI)})
	}
	if n.Internal {
		lines = append(lines, [2]string{"internal", "no way out"})
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(a.out, "%-10s %s\n", l[0], l[1])
		}
	}
	hosts := map[string]string{}
	for _, node := range v.Nodes {
		hosts[node.ID] = node.Hostname
	}
	if err := section(a, v.Nodes, []table.Column[stack.NetworkNode]{
		{Head: "NODE", Value: func(n stack.NetworkNode) string { return n.Hostname }, Min: 12},
		{Head: "ADDRESS", Value: func(n stack.NetworkNode) string { return n.Addr }},
		{Head: "CONTAINERS", Value: func(n stack.NetworkNode) string { return fmt.Sprint(n.Endpoints) }},
		{Head: "STATUS", Value: func(n stack.NetworkNode) string {
			return map[bool]string{true: "does not answer", false: "ready"}[n.Down]
		}},
	}); err != nil {
		return err
	}
	if err := section(a, v.Services, []table.Column[stack.ServiceAddress]{
		{Head: "SERVICE", Value: func(s stack.ServiceAddress) string { return s.Service }, Min: 16},
		{Head: "VIRTUAL ADDRESS", Value: func(s stack.ServiceAddress) string { return both(s.IPv4, s.IPv6) }},
		{Head: "NAMES", Value: func(s stack.ServiceAddress) string { return strings.Join(s.Names, ", ") }, Min: 16},
	}); err != nil {
		return err
	}
	if err := section(a, v.Endpoints, []table.Column[stack.Endpoint]{
		{Head: "CONTAINER", Value: func(e stack.Endpoint) string { return e.Name }, Min: 16},
		{Head: "NODE", Value: func(e stack.Endpoint) string { return hosts[e.Node] }, Min: 12},
		{Head: "ADDRESS", Value: func(e stack.Endpoint) string { return both(e.IPv4, e.IPv6) }},
		{Head: "STATUS", Value: statusOfEndpoint},
	}); err != nil {
		return err
	}
	for i, w := range v.Waiting {
		if i == 0 {
			fmt.Fprintln(a.out, "\nWAITING")
		}
		fmt.Fprintln(a.out, w)
	}
	return nil
}

// section prints a table after an empty line, unless it has no rows.
func section[T any](a *app, rows []T, cols []table.Column[T]) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return table.Print(a.out, table.Options{}, rows, cols)
}

// both joins the addresses of two families.
func both(v4, v6 string) string { return strings.Trim(v4+", "+v6, ", ") }

func statusOfEndpoint(e stack.Endpoint) string {
	switch {
	case e.Ready:
		return "ready"
	case e.Up:
		return "gets no new requests"
	}
	return "down"
}

func subnetList(list []stack.Subnet) string {
	var out []string
	for _, sn := range list {
		text := sn.CIDR
		if gw, err := netip.ParseAddr(sn.Gateway); err == nil {
			text += " (gateway " + gw.String() + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
