package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

func nodeCmd(a *app) *cobra.Command {
	return group("node", "The nodes of the cluster: list, inspect, drain, promote, remove",
		"  dhow node ls\n  dhow node update --availability drain n3\n  dhow node promote n2",
		nodeLsCmd(a), nodeInspectCmd(a), nodePsCmd(a), nodeUpdateCmd(a), nodeRoleCmd(a, "promote", "manager"), nodeRoleCmd(a, "demote", "worker"), nodeRmCmd(a))
}

// nodeRow is a line of `dhow node ls`, with docker's field names.
type nodeRow struct {
	Availability, EngineVersion, Hostname, ID, ManagerStatus, Role, Status, TLSStatus, Labels, Addr, Message string
	Self                                                                                                     bool
}

// staleFlag adds --stale.
func staleFlag(c *cobra.Command, how *client.Reading) {
	c.Flags().BoolVar(&how.Stale, "stale", false, "from the nearest manager's own copy, also while there is no leader")
}

func nodeLsCmd(a *app) *cobra.Command {
	var o table.Options
	var filter []string
	var how client.Reading
	c := &cobra.Command{
		Use: "ls", Short: "List the nodes", Args: cobra.NoArgs, Aliases: []string{"list"},
		Example: "  dhow node ls\n  dhow node ls --filter role=manager --format '{{.Hostname}} {{.Status}}'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			nodes, err := c.Nodes(cmd.Context(), f, how)
			if err != nil {
				return err
			}
			self, err := c.System(cmd.Context())
			if err != nil {
				return err
			}
			rows := make([]nodeRow, 0, len(nodes))
			for _, n := range nodes {
				if o.Quiet {
					fmt.Fprintln(a.out, n.ID)
				}
				rows = append(rows, rowOfNode(n, self.ID))
			}
			if o.Quiet {
				return nil
			}
			return table.Print(a.out, a.fit(o), rows, nodeColumns)
		},
	}
	listFlags(c, &o)
	c.Flags().StringArrayVar(&filter, "filter", nil, "KEY=VALUE: id, name, role, label (of the engine), node.label, membership")
	staleFlag(c, &how)
	return c
}

var nodeColumns = []table.Column[nodeRow]{
	{Head: "ID", Value: func(r nodeRow) string {
		if r.Self {
			return r.ID + " *"
		}
		return r.ID
	}},
	{Head: "HOSTNAME", Value: func(r nodeRow) string { return r.Hostname }, Min: 12},
	{Head: "STATUS", Value: func(r nodeRow) string { return r.Status }},
	{Head: "AVAILABILITY", Value: func(r nodeRow) string { return r.Availability }},
	{Head: "MANAGER STATUS", Value: func(r nodeRow) string { return r.ManagerStatus }},
	{Head: "ENGINE VERSION", Value: func(r nodeRow) string { return r.EngineVersion }},
}

func rowOfNode(n api.Node, self string) nodeRow {
	r := nodeRow{ID: n.ID, Hostname: n.Description.Hostname, Status: capital(string(n.Status.State)), Availability: capital(string(n.Spec.Availability)),
		EngineVersion: n.Description.Engine.EngineVersion, Role: string(n.Spec.Role), Labels: labelList(n.Spec.Labels), Addr: n.Status.Addr, Message: n.Status.Message,
		TLSStatus: "Ready", Self: n.ID == self}
	if m := n.ManagerStatus; m != nil {
		if r.ManagerStatus = capital(string(m.Reachability)); m.Leader {
			r.ManagerStatus = "Leader"
		}
	}
	return r
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// nodeRef is the ID behind self; other names are left to the daemon.
func (a *app) nodeRef(ctx context.Context, c *client.Client, ref string) (string, error) {
	if ref != "self" {
		return ref, nil
	}
	sys, err := c.System(ctx)
	return sys.ID, err
}

func nodeInspectCmd(a *app) *cobra.Command {
	var pretty bool
	var how client.Reading
	get := func(cmd *cobra.Command, c *client.Client, name string) (any, error) {
		ref, err := a.nodeRef(cmd.Context(), c, name)
		if err != nil {
			return nil, err
		}
		return c.NodeJSON(cmd.Context(), ref, how)
	}
	c := inspectCmd(a, "node", a.completeNodes(), get)
	c.Example = "  dhow node inspect self --pretty\n  dhow node inspect n2 --format json"
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
			ref, err := a.nodeRef(cmd.Context(), c, name)
			if err != nil {
				return err
			}
			n, err := c.Node(cmd.Context(), ref, how)
			if err != nil {
				return err
			}
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			a.printNode(n)
		}
		return nil
	}
	c.Flags().BoolVar(&pretty, "pretty", false, "for people instead of JSON")
	staleFlag(c, &how)
	return c
}

func (a *app) printNode(n api.Node) {
	lines := [][2]string{
		{"id", n.ID}, {"hostname", n.Description.Hostname}, {"joined", n.CreatedAt.Local().Format("2006-01-02 15:04:05")},
		{"status", string(n.Status.State) + suffix(": ", n.Status.Message)}, {"availability", string(n.Spec.Availability)}, {"address", n.Status.Addr}, {"role", string(n.Spec.Role)},
	}
	if m := n.ManagerStatus; m != nil {
		word := string(m.Reachability)
		if m.Leader {
			word = "leader"
		}
		lines = append(lines, [2]string{"manager", word + ", " + m.Addr})
	}
	lines = append(lines, [][2]string{
		{"platform", n.Description.Platform.OS + "/" + n.Description.Platform.Architecture},
		{"resources", fmt.Sprintf("%g CPUs, %s", float64(n.Description.Resources.NanoCPUs)/1e9, units.BytesSize(float64(n.Description.Resources.MemoryBytes)))},
		{"version", n.Description.Engine.EngineVersion},
	}...)
	if nw := n.Network; nw.Number != 0 {
		lines = append(lines, [2]string{"number", fmt.Sprint(nw.Number)}, [2]string{"data address", dataAddress(nw)})
	}
	for _, p := range n.Network.Problems {
		lines = append(lines, [2]string{"problem", p})
	}
	for _, l := range lines {
		fmt.Fprintf(a.out, "%-14s%s\n", l[0], l[1])
	}
	for _, k := range sortedKeys(n.Spec.Labels) {
		fmt.Fprintf(a.out, "%-14s%s=%s\n", "label", k, n.Spec.Labels[k])
	}
	for _, k := range sortedKeys(n.Description.Engine.Labels) {
		fmt.Fprintf(a.out, "%-14s%s=%s\n", "engine label", k, n.Description.Engine.Labels[k])
	}
}

// dataAddress is where others send containers' traffic, and how large its packets may be.
func dataAddress(nw api.NodeNetwork) string {
	switch {
	case nw.DataAddr == "":
		return "none: it has no address for traffic between containers now"
	case nw.MTU == 0:
		return nw.DataAddr
	}
	return fmt.Sprintf("%s (MTU %d)", nw.DataAddr, nw.MTU)
}

// taskLine is a line of `dhow node ps`, with docker's field names.
type taskLine struct {
	ID, Name, Image, Node, DesiredState, CurrentState, Error string
}

func nodePsCmd(a *app) *cobra.Command {
	var o table.Options
	var filter []string
	var how client.Reading
	c := &cobra.Command{
		Use: "ps [NODE...]", Short: "List the tasks of nodes (default: of this one)", ValidArgsFunction: a.completeNodes(),
		Example: "  dhow node ps\n  dhow node ps n2 n3 --filter desired-state=running",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := parseFilters(filter)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"self"}
			}
			rows, err := a.taskLines(cmd.Context(), args, f, how)
			if err != nil {
				return err
			}
			return table.Print(a.out, a.fit(o), rows, []table.Column[taskLine]{
				{Head: "ID", Value: func(r taskLine) string { return shortID(r.ID) }},
				{Head: "NAME", Value: func(r taskLine) string { return r.Name }, Min: 12},
				{Head: "IMAGE", Value: func(r taskLine) string { return r.Image }, Min: 12},
				{Head: "NODE", Value: func(r taskLine) string { return r.Node }},
				{Head: "DESIRED STATE", Value: func(r taskLine) string { return r.DesiredState }},
				{Head: "CURRENT STATE", Value: func(r taskLine) string { return r.CurrentState }, Min: 16},
				{Head: "ERROR", Value: func(r taskLine) string { return r.Error }, Min: 8},
			})
		},
	}
	listFlags(c, &o)
	c.Flags().StringArrayVar(&filter, "filter", nil, "KEY=VALUE: desired-state (running, shutdown), id, label, name")
	staleFlag(c, &how)
	return c
}

func (a *app) taskLines(ctx context.Context, nodes []string, f client.Filters, how client.Reading) ([]taskLine, error) {
	c, err := a.daemonClient(ctx)
	if err != nil {
		return nil, err
	}
	host := map[string]string{}
	for _, name := range nodes {
		ref, err := a.nodeRef(ctx, c, name)
		if err != nil {
			return nil, err
		}
		n, err := c.Node(ctx, ref, how)
		if err != nil {
			return nil, err
		}
		host[n.ID] = n.Description.Hostname
	}
	f["node"] = sortedKeys(host)
	tasks, err := c.Tasks(ctx, f, how)
	if err != nil {
		return nil, err
	}
	services, err := c.Services(ctx, nil, how)
	if err != nil {
		return nil, err
	}
	name := map[string]string{}
	for _, s := range services {
		stackName := s.Spec.Labels["com.docker.stack.namespace"]
		name[s.ID] = stackName + "-" + strings.TrimPrefix(s.Spec.Name, stackName+"_")
	}
	rows := make([]taskLine, 0, len(tasks))
	for _, t := range tasks {
		r := taskLine{ID: t.ID, Name: name[t.ServiceID], Node: host[t.NodeID], DesiredState: capital(string(t.DesiredState)), Error: t.Status.Err,
			CurrentState: capital(string(t.Status.State)) + " " + strings.ToLower(units.HumanDuration(time.Since(t.Status.Timestamp))) + " ago"}
		if t.Slot > 0 {
			r.Name += fmt.Sprintf("-%d", t.Slot)
		}
		if t.Spec.ContainerSpec != nil {
			r.Image = t.Spec.ContainerSpec.Image
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(x, y taskLine) int { return strings.Compare(x.Name, y.Name) })
	return rows, nil
}

// changeNode reads what is decided about a node, changes and writes it; when
// somebody else did so meanwhile, or it is not known whether it was done, again.
func (a *app) changeNode(ctx context.Context, c *client.Client, name string, change func(*swarm.NodeSpec)) (changed bool, err error) {
	ref, err := a.nodeRef(ctx, c, name)
	if err != nil {
		return false, err
	}
	for try := 1; ; try++ {
		n, err := c.Node(ctx, ref, client.Reading{})
		if err != nil {
			return false, err
		}
		before := specText(n.Spec)
		change(&n.Spec)
		if specText(n.Spec) == before {
			return try > 1, nil
		}
		err = c.UpdateNode(ctx, n.ID, n.Version.Index, n.Spec)
		if !client.IsConflict(err) && !client.IsUnavailable(err) || try == attempts {
			return err == nil, err
		}
	}
}

func specText(s swarm.NodeSpec) string {
	return fmt.Sprint(s.Role, " ", s.Availability, " ", labelList(s.Labels))
}

func nodeUpdateCmd(a *app) *cobra.Command {
	var availability, role string
	var add, rm []string
	c := &cobra.Command{
		Use: "update NODE", Short: "Change availability, role or labels of a node", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNodes(),
		Long: `Change availability, role or labels of a node. With --availability drain its tasks go to other
nodes: replacements start first. With pause it keeps its tasks and gets no new ones.`,
		Example: "  dhow node update --availability drain n3\n  dhow node update --label-add zone=a --label-rm old n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return usagef("nothing to change: give a flag")
			}
			if availability != "" && !slices.Contains([]string{"active", "pause", "drain"}, availability) {
				return usagef("--availability %s: use active, pause or drain", availability)
			}
			if role != "" && role != "manager" && role != "worker" {
				return usagef("--role %s: use manager or worker", role)
			}
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			_, err = a.changeNode(cmd.Context(), c, args[0], func(s *swarm.NodeSpec) {
				if availability != "" {
					s.Availability = swarm.NodeAvailability(availability)
				}
				if role != "" {
					s.Role = swarm.NodeRole(role)
				}
				setLabels(s, add, rm)
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, args[0])
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&availability, "availability", "", "active, pause or drain")
	fl.StringVar(&role, "role", "", "manager or worker")
	fl.StringArrayVar(&add, "label-add", nil, "`KEY=VALUE`")
	fl.StringArrayVar(&rm, "label-rm", nil, "`KEY`")
	mustComplete(c.RegisterFlagCompletionFunc("availability", cobra.FixedCompletions([]string{"active", "pause", "drain"}, cobra.ShellCompDirectiveNoFileComp)))
	mustComplete(c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"manager", "worker"}, cobra.ShellCompDirectiveNoFileComp)))
	return c
}

func setLabels(s *swarm.NodeSpec, add, rm []string) {
	labels := map[string]string{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	for _, k := range rm {
		delete(labels, k)
	}
	for _, kv := range add {
		k, v, _ := strings.Cut(kv, "=")
		labels[k] = v
	}
	s.Labels = labels
}

func nodeRoleCmd(a *app, verb, role string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE...", Short: "Make nodes " + role + "s", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeNodes(),
		Example: "  dhow node " + verb + " n2 n3",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.daemonClient(cmd.Context())
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				changed, err := a.changeNode(cmd.Context(), c, name, func(s *swarm.NodeSpec) { s.Role = swarm.NodeRole(role) })
				switch {
				case err != nil:
					errs = append(errs, err)
				case changed:
					fmt.Fprintf(a.out, "node %s is a %s now\n", name, role)
				default:
					fmt.Fprintf(a.out, "node %s is a %s already\n", name, role)
				}
			}
			return errors.Join(errs...)
		},
	}
}

func nodeRmCmd(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm NODE...", Short: "Remove nodes that have left or are lost", Args: cobra.MinimumNArgs(1), Aliases: []string{"remove"},
		Long: `Remove nodes that have left or are lost. Their certificates are refused from then on. A node that is
up is removed with --force only; one that is a manager has to be demoted first.`,
		Example: "  dhow node rm n3\n  dhow node rm --force n3", ValidArgsFunction: a.completeNodes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.removeEach(cmd, args, func(c *client.Client, name string) error { return c.RemoveNode(cmd.Context(), name, force) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also when it is up")
	return c
}

// completeNodes completes names of nodes, and self.
func (a *app) completeNodes() completion {
	return a.completeNames(-1, func(ctx context.Context, c *client.Client) ([]string, error) {
		peers, err := c.Peers(ctx)
		names := []string{"self"}
		for _, p := range peers {
			names = append(names, p.Hostname)
		}
		return names, err
	})
}
