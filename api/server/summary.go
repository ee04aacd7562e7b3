package server

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

// toSummary is one container in GET /containers/json.
func toSummary(c *runtime.Container, now time.Time) container.Summary {
	out := container.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: first(c.Spec.Image, c.ImageID), ImageID: c.ImageID,
		Command: commandLine(c), Created: c.Created.Unix(), Ports: portSummary(c),
		Labels: mergeLabels(c.Image.Labels, c.Spec.Labels), State: container.ContainerState(c.State.Status),
		Status: statusLine(&c.State, now), Mounts: fromMountPoints(c.Mounts),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: endpointMap(c)},
	}
	out.HostConfig.NetworkMode = networkModeOf(&c.Spec)
	out.HostConfig.Annotations = c.Spec.Annotations
	if h := c.State.Health; h != nil {
		out.Health = &container.HealthSummary{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak}
	}
	return out
}

func commandLine(c *runtime.Container) string {
	entrypoint, cmd := commandOf(&c.Spec, &c.Image)
	words := []string{}
	for i, w := range append(append([]string{}, entrypoint...), cmd...) {
		if i > 0 && strings.Contains(w, " ") {
			w = "'" + w + "'"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// statusLine is the status column of docker ps.
func statusLine(s *runtime.State, now time.Time) string {
	switch s.Status {
	case runtime.Running:
		up := "Up " + units.HumanDuration(now.Sub(s.StartedAt))
		if s.Health == nil {
			return up
		}
		if s.Health.Status == "starting" {
			return up + " (health: starting)"
		}
		return up + " (" + s.Health.Status + ")"
	case runtime.Paused:
		return "Up " + units.HumanDuration(now.Sub(s.StartedAt)) + " (Paused)"
	case runtime.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
	case runtime.Removing:
		return "Removal In Progress"
	case runtime.Dead:
		return "Dead"
	case runtime.Exited:
		if s.FinishedAt.IsZero() {
			return fmt.Sprintf("Exited (%d)", s.ExitCode)
		}
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
	}
	return "Created"
}

func portString(p uint16) string { return strconv.Itoa(int(p)) }

func sortPorts(ports []container.PortSummary) {
	sort.Slice(ports, func(i, j int) bool {
		a, b := ports[i], ports[j]
		if a.PrivatePort != b.PrivatePort {
			return a.PrivatePort < b.PrivatePort
		}
		if a.Type != b.Type {
			return a.Type < b.Type
		}
		return a.IP.Compare(b.IP) < 0
	})
}
