package stack

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a stack. Path uses the keys of a
// Compose file ("services.web.ports[0]"), with indexes into the stack's lists.
type Problem struct {
	Path string `json:"path"`
	Msg  string `json:"message"`
}

func (p Problem) Error() string {
	if p.Path == "" {
		return p.Msg
	}
	return p.Path + ": " + p.Msg
}

// Problems are all that Validate found, in a fixed order.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

var (
	stackName    = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	serviceName  = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)
	resourceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
)

// Validate reports everything that is wrong with s, as Problems. It looks at s
// alone: whether an image, a host path or an external network exists is for others to find.
func (s Stack) Validate() error {
	v := &validator{stack: s}
	if !stackName.MatchString(s.Name) {
		v.add("name", "%q: only lower case letters, digits, - and _ are allowed, and it starts with a letter or a digit", s.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Networks)) {
		v.network(key, s.Networks[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.Volumes)) {
		v.resource("volumes."+key, s.Volumes[key].Name)
		if scope, ok := s.Volumes[key].Labels[ScopeLabel]; ok && scope != ScopeNode {
			v.add("volumes."+key+".labels."+ScopeLabel, "%q is not a scope; with %s each node has a volume of its own, without the label one node has the only one", scope, ScopeNode)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Secrets)) {
		v.resource("secrets."+key, s.Secrets[key].Name)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Configs)) {
		v.resource("configs."+key, s.Configs[key].Name)
	}
	for _, name := range s.ServiceNames() {
		v.service(name, s.Services[name])
	}
	if cycle := s.cycle(); cycle != nil {
		v.add("services."+cycle[0]+"."+v.link(cycle[0], cycle[1]), "dependency cycle: %s", strings.Join(cycle, " -> "))
	}
	v.sharedNames()
	v.sharedPorts()
	v.sharedAddresses()
	v.sharedSubnets()
	if len(v.found) == 0 {
		return nil
	}
	return v.found
}

type validator struct {
	stack Stack
	found Problems
}

func (v *validator) add(path, format string, args ...any) {
	v.found = append(v.found, Problem{path, fmt.Sprintf(format, args...)})
}

func (v *validator) resource(path, name string) {
	if !resourceName.MatchString(name) {
		v.add(path, "name %q: only letters, digits, _, . and - are allowed, and it starts with a letter or a digit", name)
	}
}

// link is the key by which one service needs another.
func (v *validator) link(name, other string) string {
	svc := v.stack.Services[name]
	switch {
	case slices.ContainsFunc(svc.DependsOn, func(d Dependency) bool { return d.Service == other }):
		return "depends_on." + other
	case svc.Container.NetworkMode == "service:"+other:
		return "network_mode"
	case svc.Container.PIDMode == "service:"+other:
		return "pid"
	case svc.Container.IPCMode == "service:"+other:
		return "ipc"
	}
	return "volumes_from"
}

func (v *validator) service(name string, svc Service) {
	path := "services." + name
	if !serviceName.MatchString(name) || svc.Name != name {
		v.add(path, "%q is not a service name: letters, digits, ., _ and - are allowed", svc.Name)
	}
	if svc.Container.Image == "" && svc.Container.ImageID == "" {
		v.add(path, "has no image")
	}
	v.scale(path, svc)
	v.placement(path+".deploy.placement", svc)
	for _, d := range svc.DependsOn {
		at := path + ".depends_on." + d.Service
		if _, ok := v.stack.Services[d.Service]; !ok && !d.Optional {
			v.add(at, "%s", v.unknownService(d.Service))
		}
		if !slices.Contains([]Condition{Started, Healthy, Completed}, d.Condition) {
			v.add(at, "condition %q is none of %s, %s, %s", d.Condition, Started, Healthy, Completed)
		}
	}
	for _, ref := range []struct{ key, mode string }{
		{"network_mode", svc.Container.NetworkMode}, {"pid", svc.Container.PIDMode}, {"ipc", svc.Container.IPCMode},
	} {
		if other, ok := strings.CutPrefix(ref.mode, "service:"); ok {
			v.needService(path+"."+ref.key, other)
		}
	}
	for i, from := range svc.Container.VolumesFrom {
		if other, ok := ServiceOfVolumesFrom(from); ok {
			v.needService(fmt.Sprintf("%s.volumes_from[%d]", path, i), other)
		}
	}
	for i, l := range svc.Links {
		other, _, _ := strings.Cut(l, ":")
		v.needService(fmt.Sprintf("%s.links[%d]", path, i), other)
	}
	v.container(path, svc)
}

func (v *validator) needService(path, name string) {
	if _, ok := v.stack.Services[name]; !ok {
		v.add(path, "%s", v.unknownService(name))
	}
}

func (v *validator) unknownService(name string) string {
	if slices.Contains(v.stack.Disabled, name) {
		return "service " + name + " is not enabled by any active profile"
	}
	return "there is no service " + name
}

func (v *validator) scale(path string, svc Service) {
	switch svc.Mode {
	case Replicated, Global, ReplicatedJob, GlobalJob:
	default:
		v.add(path+".deploy.mode", "%q is none of replicated, global, replicated-job, global-job", svc.Mode)
	}
	if svc.Replicas < 0 {
		v.add(path+".deploy.replicas", "%d is less than 0", svc.Replicas)
	}
	if svc.ContainerName == "" {
		return
	}
	if !resourceName.MatchString(svc.ContainerName) {
		v.add(path+".container_name", "%q is not a container name", svc.ContainerName)
	}
	if svc.Replicas > 1 {
		v.add(path+".container_name", "only one container can have the name %s, and there are to be %d", svc.ContainerName, svc.Replicas)
	}
}

// sharedNames finds container names and real names that are used twice.
func (v *validator) sharedNames() {
	seen := map[string]string{}
	for _, name := range v.stack.ServiceNames() {
		cn := v.stack.Services[name].ContainerName
		if other, dup := seen[cn]; dup && cn != "" {
			v.add("services."+name+".container_name", "%s is also the name of service %s's container", cn, other)
		}
		seen[cn] = name
	}
	names := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(v.stack.Networks)) {
		n := v.stack.Networks[key]
		if other, dup := names[n.Name]; dup && !n.External {
			v.add("networks."+key+".name", "%s is also the name of network %s", n.Name, other)
		}
		names[n.Name] = key
	}
	clear(names)
	for _, key := range slices.Sorted(maps.Keys(v.stack.Volumes)) {
		vol := v.stack.Volumes[key]
		if other, dup := names[vol.Name]; dup && !vol.External {
			v.add("volumes."+key+".name", "%s is also the name of volume %s", vol.Name, other)
		}
		names[vol.Name] = key
	}
}
