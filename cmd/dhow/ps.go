package main

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
	"github.com/dhow-project/dhow/stack"
)

// psRow is a line of `dhow ps`, with docker compose's field names.
type psRow struct {
	Command    string
	CreatedAt  string
	ExitCode   int
	Health     string
	ID         string
	Image      string
	Labels     string
	Mounts     string
	Name       string
	Names      string
	Networks   string
	Ports      string
	Project    string
	Publishers []publisher
	RunningFor string
	Service    string
	State      string
	Status     string
	Message    string // what the task waits for, or why it failed
	Node       string // hostname; "" for one node alone
}

// publisher is one published port.
type publisher struct {
	URL           string
	TargetPort    uint16
	PublishedPort uint16
	Protocol      string
}

func psCmd(a *app) *cobra.Command {
	var o table.Options
	var all, services bool
	var status []string
	c := &cobra.Command{
		Use: "ps [SERVICE...]", Short: "List the containers of the stack",
		Long: `List the containers of the stack on all nodes, and tasks that wait for something with what they
wait for. A node that does not answer within 2 s is left out: a line on standard error says so, and
the exit code stays 0.`,
		Example: "  dhow ps\n  dhow ps --all --format json\n  dhow ps --format '{{.Name}} {{.Health}}'",
		Aliases: []string{"list"}, ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := a.psRows(cmd.Context(), args, all || len(status) > 0)
			if err != nil {
				return err
			}
			if len(status) > 0 {
				rows = slices.DeleteFunc(rows, func(r psRow) bool { return !slices.Contains(status, r.State) })
			}
			if services {
				return a.printServices(rows)
			}
			if o.Quiet {
				for _, r := range rows {
					if r.ID != "" {
						fmt.Fprintln(a.out, r.ID)
					}
				}
				return nil
			}
			return table.Print(a.out, a.fit(o), rows, a.psColumns(rows))
		},
	}
	listFlags(c, &o)
	c.Flags().BoolVarP(&all, "all", "a", false, "also containers that have ended")
	c.Flags().BoolVar(&services, "services", false, "print names of services")
	c.Flags().StringArrayVar(&status, "status", nil, "only these: created, running, paused, restarting, exited, pending")
	return c
}

var psColumns = []table.Column[psRow]{
	{Head: "NAME", Value: func(r psRow) string { return r.Name }},
	{Head: "IMAGE", Value: func(r psRow) string { return r.Image }, Min: 12},
	{Head: "SERVICE", Value: func(r psRow) string { return r.Service }},
	{Head: "STATUS", Value: func(r psRow) string {
		if r.Message != "" {
			return r.Status + ": " + r.Message
		}
		return r.Status
	}, Min: 24},
	{Head: "PORTS", Value: func(r psRow) string { return r.Ports }, Min: 16},
}

// psColumns has the node of each container when there are several.
func (a *app) psColumns(rows []psRow) []table.Column[psRow] {
	if !slices.ContainsFunc(rows, func(r psRow) bool { return r.Node != "" }) {
		return psColumns
	}
	node := table.Column[psRow]{Head: "NODE", Value: func(r psRow) string { return r.Node }}
	return slices.Insert(slices.Clone(psColumns), 3, node)
}

func (a *app) printServices(rows []psRow) error {
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.Service] {
			seen[r.Service] = true
			fmt.Fprintln(a.out, r.Service)
		}
	}
	return nil
}

func (a *app) psRows(ctx context.Context, args []string, all bool) ([]psRow, error) {
	c, name, services, err := a.target(ctx, args)
	if len(args) == 0 && client.IsNotFound(err) {
		return nil, nil // nothing runs: an empty list
	}
	if err != nil {
		return nil, err
	}
	st, err := c.Stack(ctx, name)
	if err != nil {
		return nil, err
	}
	list, err := a.containers(ctx, c, name, services, true)
	if err != nil {
		return nil, err
	}
	var rows []psRow
	has := map[string]bool{}
	for _, ct := range list {
		has[ct.ID] = true
		if all || ct.State != "exited" && ct.State != "created" && ct.State != "dead" {
			row := containerRow(name, ct)
			if len(st.Nodes) > 0 || a.manyNodes() {
				row.Node = a.hostOf(ct.ID)
			}
			rows = append(rows, row)
		}
	}
	for id, n := range st.Nodes {
		if _, silent := a.isSilent(id); silent {
			n.Down = true // or not known to be down yet
			st.Nodes[id] = n
		}
	}
	for _, t := range st.Tasks {
		if (t.Status.ContainerID == "" || !has[t.Status.ContainerID]) && slices.Contains(services, t.Service) && shows(st, t) {
			rows = append(rows, taskRow(st, t))
		}
	}
	sort.SliceStable(rows, func(i, j int) bool {
		if rows[i].Name != rows[j].Name {
			return rows[i].Name < rows[j].Name
		}
		return rows[i].Node < rows[j].Node
	})
	return rows, nil
}

var exited = regexp.MustCompile(`^Exited \((\d+)\)`)

func containerRow(project string, ct container.Summary) psRow {
	r := psRow{
		ID: ct.ID, Name: containerName(ct), Names: containerName(ct), Image: ct.Image, Command: strconv.Quote(ct.Command),
		Project: project, Service: ct.Labels[labelService], State: string(ct.State), Status: ct.Status,
		CreatedAt:  time.Unix(ct.Created, 0).Format("2006-01-02 15:04:05 -0700 MST"),
		RunningFor: units.HumanDuration(time.Since(time.Unix(ct.Created, 0))) + " ago",
		Publishers: []publisher{},
	}
	if m := exited.FindStringSubmatch(ct.Status); m != nil {
		r.ExitCode, _ = strconv.Atoi(m[1])
	}
	for _, h := range []string{"healthy", "unhealthy", "starting"} {
		if strings.Contains(ct.Status, "("+h+")") || strings.Contains(ct.Status, "(health: "+h+")") {
			r.Health = h
		}
	}
	if ct.Health != nil && r.Health == "" && ct.Health.Status != "none" {
		r.Health = string(ct.Health.Status)
	}
	for _, k := range sortedKeys(ct.Labels) {
		r.Labels = strings.TrimPrefix(r.Labels+","+k+"="+ct.Labels[k], ",")
	}
	for _, m := range ct.Mounts {
		source := m.Name
		if source == "" {
			source = m.Source
		}
		r.Mounts = strings.TrimPrefix(r.Mounts+","+source, ",")
	}
	if ct.NetworkSettings != nil {
		r.Networks = strings.Join(sortedKeys(ct.NetworkSettings.Networks), ",")
	}
	for _, p := range ct.Ports {
		url := ""
		if p.IP.IsValid() {
			url = p.IP.String()
		}
		r.Publishers = append(r.Publishers, publisher{URL: url, TargetPort: p.PrivatePort, PublishedPort: p.PublicPort, Protocol: p.Type})
	}
	sort.Slice(r.Publishers, func(i, j int) bool {
		a, b := r.Publishers[i], r.Publishers[j]
		if a.TargetPort != b.TargetPort {
			return a.TargetPort < b.TargetPort
		}
		return a.URL < b.URL
	})
	r.Ports = portList(r.Publishers)
	return r
}

// portList is "0.0.0.0:8088->80/tcp, 9000/tcp". The IPv6 wildcard beside the IPv4 one says nothing new.
func portList(ps []publisher) string {
	var out []string
	for _, p := range ps {
		if p.URL == "::" && slices.ContainsFunc(ps, func(q publisher) bool {
			return q.URL == "0.0.0.0" && q.PublishedPort == p.PublishedPort && q.TargetPort == p.TargetPort && q.Protocol == p.Protocol
		}) {
			continue
		}
		s := fmt.Sprintf("%d/%s", p.TargetPort, p.Protocol)
		if p.PublishedPort != 0 {
			s = fmt.Sprintf("%s:%d->%s", host(p.URL), p.PublishedPort, s)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func host(addr string) string {
	if ip, err := netip.ParseAddr(addr); err == nil && ip.Is6() {
		return "[" + addr + "]"
	}
	return addr
}

// shows says whether a task without a container that we know of is listed: it
// waits for something, or its node did not answer.
func shows(st api.StackStatus, t stack.Task) bool {
	if away(st, &t) {
		return t.Desired != stack.DesiredRemove && t.Status.State <= stack.TaskRunning
	}
	return t.Status.State < stack.TaskRunning
}

// taskRow is a task that has no container yet, or one that is out of reach.
func taskRow(st api.StackStatus, t stack.Task) psRow {
	name := st.Stack.Services[t.Service].ContainerName
	if name == "" {
		name = fmt.Sprintf("%s-%s-%d", t.Stack, t.Service, t.Slot)
	}
	message := t.Status.Message
	if away(st, &t) {
		message = "its node does not answer"
	}
	return psRow{
		Name: name, Names: name, Project: t.Stack, Service: t.Service, Image: st.Stack.Services[t.Service].Container.Image,
		State: taskWord(st, t), Status: taskWord(st, t), Message: message, Publishers: []publisher{},
		CreatedAt: time.Unix(0, t.Created).Format("2006-01-02 15:04:05 -0700 MST"), Node: st.Nodes[t.Node].Hostname,
	}
}

// taskWord is a task's state in a word.
func taskWord(st api.StackStatus, t stack.Task) string {
	switch s := t.Status.State; {
	case away(st, &t):
		return "unknown"
	case t.Status.Paused:
		return "paused"
	case s < stack.TaskAssigned:
		return "pending"
	case s < stack.TaskReady:
		return "preparing"
	case s == stack.TaskReady && t.Desired != stack.DesiredStop && t.Status.Message != stack.StoppedByHand:
		return "created"
	case s == stack.TaskRunning:
		return "running"
	case s == stack.TaskRemoved:
		return "removed"
	}
	return "exited"
}
