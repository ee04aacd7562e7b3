package main

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/api/client"
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
		return runs(list[i]) && !runs(list[j]) // of two of a slot, the one that lives
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

// oneContainer is the container of a service that a command is for: number
// --index, or the first that runs.
func (a *app) oneContainer(ctx context.Context, service string, index int, all bool) (*client.Client, container.Summary, error) {
	c, list, err := a.targets(ctx, []string{service}, all)
	if err != nil {
		return nil, container.Summary{}, err
	}
	for _, ct := range list {
		if index == 0 || number(ct) == index {
			return c, ct, nil
		}
	}
	if index > 0 {
		err = fmt.Errorf("service %s has no running container number %d", service, index)
	} else {
		err = fmt.Errorf("service %s has no running container", service)
	}
	return nil, container.Summary{}, hinted{err, "dhow ps --all " + service}
}
