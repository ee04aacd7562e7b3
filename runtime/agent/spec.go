package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// composeVersion is what tools that look for Compose's containers expect in the version label.
const composeVersion = "2.40.0"

// Name is the name of a task's container.
func Name(t stack.Task, s *stack.Service) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return fmt.Sprintf("%s-%s-%d", t.Stack, t.Service, t.Slot)
}

// Spec is what the engine gets: the service's container with the real names of
// networks and volumes, the content of secrets and configs, the containers
// behind "service:NAME" and Compose's labels. Peers are container IDs by service.
func Spec(a stack.Assignment, cluster string, img *runtime.Image, peers map[string]string) (stack.ContainerSpec, error) {
	c := a.Service.Container.Clone()
	c.ImageID, c.Leased = img.ID, a.Service.Exclusive
	c.Labels = labels(a, cluster, img.ID, c.Labels)
	networks(a, &c)
	inheritVolumes(a.Task, &c, img)
	for i, m := range c.Mounts {
		if v, ok := a.Stack.Volumes[m.Source]; ok && m.Type == stack.MountVolume {
			c.Mounts[i].Source = v.Name
		}
	}
	if err := resolvePeers(&c, peers); err != nil {
		return c, err
	}
	if err := fill(c.Secrets, a.Secrets, "secret"); err != nil {
		return c, err
	}
	if err := fill(c.Configs, a.Configs, "config"); err != nil {
		return c, err
	}
	job := a.Service.Mode == stack.ReplicatedJob || a.Service.Mode == stack.GlobalJob
	if job && (c.Restart.Condition == "always" || c.Restart.Condition == "unless-stopped") {
		c.Restart.Condition = "on-failure" // a job that is done is not done again
	}
	return c, nil
}

func networks(a stack.Assignment, c *stack.ContainerSpec) {
	for i, at := range c.Networks {
		if n, ok := a.Stack.Networks[at.Network]; ok {
			c.Networks[i].Network = n.Name
		}
		for _, given := range a.Task.Addresses {
			if given.Network == c.Networks[i].Network {
				c.Networks[i].Given4, c.Networks[i].Given6 = given.IPv4, given.IPv6
			}
		}
		if !slices.Contains(at.Aliases, a.Service.Name) {
			c.Networks[i].Aliases = append(c.Networks[i].Aliases, a.Service.Name)
		}
	}
}

// inheritVolumes mounts the anonymous volumes of the task before this one, where
// the image or the service still wants one: a new version keeps its data.
func inheritVolumes(t stack.Task, c *stack.ContainerSpec, img *runtime.Image) {
	volumes := t.Inherited()
	for _, target := range slices.Sorted(maps.Keys(volumes)) {
		i := slices.IndexFunc(c.Mounts, func(m stack.Mount) bool { return m.Target == target })
		switch {
		case i >= 0 && c.Mounts[i].Type == stack.MountVolume && c.Mounts[i].Source == "":
			c.Mounts[i].Source = volumes[target]
		case i < 0 && slices.Contains(img.Config.Volumes, target):
			c.Mounts = append(c.Mounts, stack.Mount{Type: stack.MountVolume, Source: volumes[target], Target: target, FromImage: true})
		}
	}
}

// errWaiting is wrapped when there is nothing wrong but the time.
var errWaiting = errors.New("waits for")

// resolvePeers replaces services by their containers.
func resolvePeers(c *stack.ContainerSpec, peers map[string]string) error {
	for _, mode := range []*string{&c.NetworkMode, &c.PIDMode, &c.IPCMode} {
		name, ok := strings.CutPrefix(*mode, "service:")
		if !ok {
			continue
		}
		id := peers[name]
		if id == "" {
			return fmt.Errorf("%w a container of service %s on this node", errWaiting, name)
		}
		*mode = "container:" + id
	}
	for i, from := range c.VolumesFrom {
		name, ok := stack.ServiceOfVolumesFrom(from)
		if !ok {
			continue
		}
		id := peers[name]
		if id == "" {
			return fmt.Errorf("%w a container of service %s on this node", errWaiting, name)
		}
		c.VolumesFrom[i] = id + strings.TrimPrefix(from, "service:"+name)
	}
	return nil
}

// unfit reports whether a container joins namespaces of a container that its service no longer has.
func unfit(a stack.Assignment, c *runtime.Container, peers map[string]string) bool {
	if a.Service == nil || c == nil {
		return false
	}
	want, have := a.Service.Container, c.Spec
	for _, m := range [][2]string{{want.NetworkMode, have.NetworkMode}, {want.PIDMode, have.PIDMode}, {want.IPCMode, have.IPCMode}} {
		name, ok := strings.CutPrefix(m[0], "service:")
		if ok && peers[name] != "" && m[1] != "container:"+peers[name] {
			return true
		}
	}
	return false
}

func fill(refs []stack.FileRef, data map[string][]byte, kind string) error {
	for i, r := range refs {
		content, ok := data[r.Source]
		if !ok {
			return fmt.Errorf("%s %s has no content: %w", kind, r.Source, runtime.ErrNotFound)
		}
		refs[i].Data = content
	}
	return nil
}

// labels are the user's, Compose's and our own.
func labels(a stack.Assignment, cluster, imageID string, own map[string]string) map[string]string {
	out := make(map[string]string, len(own)+12)
	for k, v := range own {
		out[k] = v
	}
	const p = "com.docker.compose."
	out[p+"project"] = a.Task.Stack
	out[p+"service"] = a.Task.Service
	out[p+"container-number"] = strconv.Itoa(a.Task.Slot)
	out[p+"config-hash"] = a.Hash
	out[p+"oneoff"] = "False"
	out[p+"version"] = composeVersion
	out[p+"image"] = imageID
	out[p+"depends_on"] = dependsOn(a.Service)
	if a.Stack.WorkingDir != "" {
		out[p+"project.working_dir"] = a.Stack.WorkingDir
	}
	if len(a.Stack.Files) > 0 {
		out[p+"project.config_files"] = strings.Join(a.Stack.Files, ",")
	}
	if len(a.Stack.EnvFiles) > 0 {
		out[p+"project.environment_file"] = strings.Join(a.Stack.EnvFiles, ",")
	}
	out[LabelTask] = a.Task.ID
	out[LabelCluster] = cluster
	return out
}

// dependsOn is Compose's form: "db:service_healthy:false,cache:service_started:true".
func dependsOn(s *stack.Service) string {
	parts := make([]string, len(s.DependsOn))
	for i, d := range s.DependsOn {
		parts[i] = fmt.Sprintf("%s:%s:%t", d.Service, d.Condition, d.Restart)
	}
	return strings.Join(parts, ",")
}
