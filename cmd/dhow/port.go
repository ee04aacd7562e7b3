package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack"
)

func portCmd(a *app) *cobra.Command {
	var protocol string
	var which choice
	c := &cobra.Command{
		Use: "port SERVICE PORT", Short: "Print where a port of a service is published", Example: "  dhow port web 80",
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeOneService,
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil {
				return usagef("port %s: use a number from 1 to 65535", args[1])
			}
			c, ct, err := a.oneContainer(cmd.Context(), args[0], which, false)
			if err != nil {
				return err
			}
			at, found := publisherOf(containerRow("", ct).Publishers, uint16(want), protocol)
			if !found {
				return hinted{fmt.Errorf("service %s does not publish port %s/%s", args[0], args[1], protocol), "dhow ps " + args[0]}
			}
			if at.URL, err = a.reachable(cmd.Context(), c, ct, at); err != nil {
				return err
			}
			fmt.Fprintln(a.out, net.JoinHostPort(at.URL, strconv.Itoa(int(at.PublishedPort))))
			return nil
		},
	}
	c.Flags().StringVar(&protocol, "protocol", "tcp", "tcp or udp")
	which.register(a, c, "the first that runs")
	return c
}

func publisherOf(list []publisher, port uint16, protocol string) (publisher, bool) {
	for _, p := range list {
		if p.TargetPort == port && p.Protocol == protocol && p.PublishedPort != 0 {
			return p, true
		}
	}
	return publisher{}, false
}

// reachable is the address of a published port. One of mode host is open on the
// container's node only: when that is another one, its address takes the place
// of "all addresses".
func (a *app) reachable(ctx context.Context, c *client.Client, ct container.Summary, at publisher) (string, error) {
	ip, err := netip.ParseAddr(at.URL)
	if err != nil || !ip.IsUnspecified() || !a.manyNodes() {
		return at.URL, nil //nolint:nilerr // what is no address is shown as it is
	}
	st, err := c.Stack(ctx, ct.Labels[labelProject])
	if err != nil {
		return "", err
	}
	service := st.Stack.Services[ct.Labels[labelService]]
	if !slices.ContainsFunc(service.Container.Ports, func(p stack.Port) bool { return p.Mode == "host" && p.ContainerPort == at.TargetPort }) {
		return at.URL, nil
	}
	peers, err := c.Peers(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range peers {
		if a.onNode(ct.ID, p.ID) && !p.Self {
			if addr, _, err := net.SplitHostPort(p.Addr); err == nil {
				return addr, nil
			}
		}
	}
	return at.URL, nil
}
