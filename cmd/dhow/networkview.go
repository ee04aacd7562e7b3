package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

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
	Published []stack.Published      // host ports of its services
	Usage     []stack.RangeUsage     // of its ranges
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
			d.VNI, d.Virtual, d.Nodes, d.Services, d.Endpoints = v.Network.VNI, v.Network.Virtual, v.Nodes, v.Services, v.Endpoints
			d.Published, d.Usage, d.Waiting = v.Published, v.Usage, v.Waiting
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
			v, err := anyNetwork(cmd.Context(), c, name)
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

// anyNetwork is what is known of a network, also of those that every node has by itself.
func anyNetwork(ctx context.Context, c *client.Client, name string) (stack.NetworkView, error) {
	n, err := c.Network(ctx, name)
	if err != nil {
		return stack.NetworkView{}, err
	}
	if n.Driver == "host" || n.Driver == "null" {
		return stack.NetworkView{Network: stack.Network{Name: n.Name, ID: n.ID, Driver: n.Driver}}, nil
	}
	return c.NetworkView(ctx, n.ID)
}

func (a *app) printNetwork(v stack.NetworkView) error {
	n := v.Network
	lines := [][2]string{{"network", n.Name}, {"id", shortID(n.ID)}, {"stack", n.Stack}, {"kind", kindOfNetwork(n)}}
	for i, sn := range n.Subnets {
		lines = append(lines, [2]string{heading("subnets", i), sn.CIDR + suffix(", gateway ", sn.Gateway) + suffix(", given out from ", sn.Range) + taken(v.Usage, sn.CIDR, false)})
	}
	for i, r := range n.Virtual {
		lines = append(lines, [2]string{heading("virtual", i), r + taken(v.Usage, r, true)})
	}
	for i, d := range sortedKeys(n.Forward) {
		lines = append(lines, [2]string{heading("forward", i), d + " to " + strings.Join(n.Forward[d], ", ")})
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(a.out, "%-10s %s\n", l[0], l[1])
		}
	}
	if err := a.printMembers(v); err != nil {
		return err
	}
	for i, w := range v.Waiting {
		if i == 0 {
			fmt.Fprintln(a.out, "\nNOT AS IT SHOULD BE")
		}
		fmt.Fprintln(a.out, a.folded("- "+w, "  "))
	}
	return nil
}

// kindOfNetwork is what else a network is: "overlay, VXLAN 65538, internal".
func kindOfNetwork(n stack.Network) string {
	words := []string{n.Driver}
	switch {
	case n.Driver == "":
		words[0] = "bridge"
	case n.Driver == "overlay" && n.Attachable:
		words = append(words, "attachable")
	}
	if n.Name == stack.IngressNetwork && n.Stack == "" {
		words = append(words, "carries published ports between nodes")
	}
	if n.VNI != 0 {
		words = append(words, fmt.Sprintf("VXLAN %d", n.VNI))
	} else if n.Name == stack.LocalNetwork {
		words = append(words, "each node has its own")
	}
	if n.Internal {
		words = append(words, "internal: no way out")
	}
	return strings.Join(words, ", ")
}

// heading names the first of several lines.
func heading(s string, i int) string {
	if i > 0 {
		return ""
	}
	return s
}

// plenty is how many addresses nobody counts.
const plenty = 1 << 24

// taken says how full a range is, unless it cannot become full. Of several
// ranges of one family the number is that of all.
func taken(list []stack.RangeUsage, cidr string, virtual bool) string {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return ""
	}
	for _, u := range list {
		if u.Virtual == virtual && u.IPv6 == p.Addr().Is6() && u.Total < plenty {
			return fmt.Sprintf(": %d of %d addresses taken", u.Taken, u.Total)
		}
	}
	return ""
}

// printMembers lists nodes, services and containers.
func (a *app) printMembers(v stack.NetworkView) error {
	hosts, down, ports := map[string]string{}, map[string]bool{}, map[string]string{}
	for _, node := range v.Nodes {
		hosts[node.ID], down[node.ID] = node.Hostname, node.Down
	}
	for _, p := range v.Published {
		ports[p.Service] = publishedList(p.Ports)
	}
	if err := section(a, v.Nodes, []table.Column[stack.NetworkNode]{
		{Head: "NODE", Value: func(n stack.NetworkNode) string { return n.Hostname }, Min: 12},
		{Head: "ADDRESS", Value: func(n stack.NetworkNode) string { return n.Addr }},
		{Head: "CONTAINERS", Value: func(n stack.NetworkNode) string { return fmt.Sprint(n.Endpoints) }},
		{Head: "STATUS", Value: statusOfPeer},
	}); err != nil {
		return err
	}
	if err := section(a, v.Services, []table.Column[stack.ServiceAddress]{
		{Head: "SERVICE", Value: func(s stack.ServiceAddress) string { return s.Service }, Min: 16},
		{Head: "VIRTUAL ADDRESS", Value: func(s stack.ServiceAddress) string {
			if s.IPv4 == "" && s.IPv6 == "" {
				return "none: its tasks' (dnsrr)"
			}
			return both(s.IPv4, s.IPv6)
		}},
		{Head: "NAMES", Value: func(s stack.ServiceAddress) string { return strings.Join(s.Names, ", ") }, Min: 16},
		{Head: "PUBLISHED", Value: func(s stack.ServiceAddress) string { return ports[s.Service] }, Min: 16},
	}); err != nil {
		return err
	}
	return section(a, v.Endpoints, []table.Column[stack.Endpoint]{
		{Head: "CONTAINER", Value: func(e stack.Endpoint) string { return e.Name }, Min: 16},
		{Head: "NODE", Value: func(e stack.Endpoint) string { return hosts[e.Node] }, Min: 12},
		{Head: "ADDRESS", Value: func(e stack.Endpoint) string { return both(e.IPv4, e.IPv6) }},
		{Head: "STATUS", Value: func(e stack.Endpoint) string {
			if down[e.Node] {
				return "node does not answer"
			}
			return statusOfEndpoint(e)
		}},
	})
}

// publishedList is "*:8080->80/tcp" for each port.
func publishedList(ports []stack.Port) string {
	var out []string
	for _, p := range ports {
		at := "*"
		if p.HostIP != "" {
			at = host(p.HostIP)
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		out = append(out, fmt.Sprintf("%s:%d->%d/%s", at, p.HostPort, p.ContainerPort, protocol))
	}
	return strings.Join(out, ", ")
}

func statusOfPeer(n stack.NetworkNode) string {
	switch {
	case n.Down:
		return "does not answer"
	case len(n.Problems) > 0:
		return "has problems"
	}
	return "ready"
}

// section prints a table after an empty line, unless it has no rows.
func section[T any](a *app, rows []T, cols []table.Column[T]) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return table.Print(a.out, a.fit(table.Options{}), rows, cols)
}

// folded breaks a text at blanks to fit a terminal; what is piped stays one line.
func (a *app) folded(text, indent string) string {
	if _, tty := terminal(a.out); !tty {
		return text
	}
	most := max(width(a.out), 40)
	var out strings.Builder
	used := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+n > most:
			out.WriteString("\n" + indent)
			used = len(indent)
		default:
			out.WriteByte(' ')
			used++
		}
		out.WriteString(word)
		used += n
	}
	return out.String()
}

// both joins the addresses of two families.
func both(v4, v6 string) string { return strings.Trim(v4+", "+v6, ", ") }

func statusOfEndpoint(e stack.Endpoint) string {
	switch {
	case e.Ready:
		return "ready"
	case e.Up:
		return "gets no new requests"
	case e.Container == "":
		return "not made yet"
	}
	return "not running"
}
