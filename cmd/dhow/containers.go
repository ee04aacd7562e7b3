package main

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack"
)

// Compose's labels, by which containers belong to stacks.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelNumber  = "com.docker.compose.container-number"
	labelOneOff  = "com.docker.compose.oneoff"
)

// containers of services of a stack on all nodes, sorted by service and number;
// all also lists those that do not run. Containers of `dhow run` do not count.
// Nodes that do not answer are left out, with a line that says so.
func (a *app) containers(ctx context.Context, c *client.Client, stackName string, services []string, all bool) ([]container.Summary, error) {
	found, missing, err := c.ContainersEverywhere(ctx, client.ListOptions{All: all, Filters: client.Filters{"label": {labelProject + "=" + stackName}}})
	if err != nil {
		return nil, err
	}
	a.learn(found, missing)
	list := make([]container.Summary, 0, len(found))
	for _, ct := range found {
		list = append(list, ct.Summary)
	}
	list = slices.DeleteFunc(list, func(ct container.Summary) bool {
		return ct.Labels[labelOneOff] == "True" || len(services) > 0 && !slices.Contains(services, ct.Labels[labelService])
	})
	sort.Slice(list, func(i, j int) bool {
		si, sj := list[i].Labels[labelService], list[j].Labels[labelService]
		if si != sj {
			return si < sj
		}
		if ni, nj := number(list[i]), number(list[j]); ni != nj {
			return ni < nj
		}
		if runs(list[i]) != runs(list[j]) {
			return runs(list[i]) // of two of a slot, the one that lives
		}
		return a.hostOf(list[i].ID) < a.hostOf(list[j].ID) // of a global service
	})
	return list, nil
}

func number(ct container.Summary) int {
	n, _ := strconv.Atoi(ct.Labels[labelNumber])
	return n
}

func containerName(ct container.Summary) string {
	if len(ct.Names) == 0 {
		return ct.ID[:12]
	}
	return strings.TrimPrefix(ct.Names[0], "/")
}

// choice says which container of a service a command is for.
type choice struct {
	index int    // 0: the first
	node  string // "": on any
}

// register adds the flags of a choice; first says which is taken without them.
func (w *choice) register(a *app, c *cobra.Command, first string) {
	c.Flags().IntVar(&w.index, "index", 0, "number of the container (default: "+first+")")
	c.Flags().StringVar(&w.node, "node", "", "the container on this `NODE`, of a service that runs on several")
	mustComplete(c.RegisterFlagCompletionFunc("node", a.completeNodes()))
}

func (w choice) String() (s string) {
	if w.index > 0 {
		s = fmt.Sprintf(" number %d", w.index)
	}
	return s + suffix(" on node ", w.node)
}

// oneContainer is the container of a service that a command is for: the chosen
// one, or the first that runs.
func (a *app) oneContainer(ctx context.Context, service string, which choice, all bool) (*client.Client, container.Summary, error) {
	c, name, services, err := a.target(ctx, []string{service})
	if err != nil {
		return nil, container.Summary{}, err
	}
	list, err := a.containers(ctx, c, name, services, all)
	if err != nil {
		return nil, container.Summary{}, err
	}
	for _, ct := range list {
		if (which.index == 0 || number(ct) == which.index) && (which.node == "" || a.onNode(ct.ID, which.node)) {
			return c, ct, nil
		}
	}
	if err := a.outOfReach(ctx, c, name, service, which); err != nil {
		return nil, container.Summary{}, err
	}
	err = fmt.Errorf("service %s has no running container%s", service, which)
	return nil, container.Summary{}, hinted{err, "dhow ps --all " + service}
}

// outOfReach is the error when the container that is looked for is on a node that does not answer.
func (a *app) outOfReach(ctx context.Context, c *client.Client, name, service string, which choice) error {
	st, err := c.Stack(ctx, name)
	if err != nil {
		return nil //nolint:nilerr // that nothing was found is said by the caller
	}
	for _, t := range st.Tasks {
		why, silent := a.isSilent(t.Node)
		host := st.Nodes[t.Node].Hostname
		if !silent || t.Service != service || t.Desired != stack.DesiredRun || which.index > 0 && t.Slot != which.index ||
			which.node != "" && host != which.node && !strings.HasPrefix(t.Node, which.node) {
			continue
		}
		return hinted{fmt.Errorf("the container of service %s is on node %s, which is left out: %s", service, host, why), "dhow node ls"}
	}
	return nil
}
