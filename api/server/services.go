package server

import (
	"crypto/sha256"
	"math/big"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

// stackLabel is where Docker's tools look for the stack of a service.
const stackLabel = "com.docker.stack.namespace"

// serviceID is a service's ID in Docker's API: here a service is known by its
// stack and name, so that one that is made again has the same.
func serviceID(stackName, service string) string { return objectID("service", stackName+"/"+service) }

// objectID is an ID of the field's form for what the state knows by name.
func objectID(kind, name string) string {
	sum := sha256.Sum256([]byte("dhow " + kind + " " + name))
	text := new(big.Int).SetBytes(sum[:]).Text(36)
	return text[:25]
}

// serviceName is how Docker's tools show a service of a stack.
func serviceName(stackName, service string) string { return stackName + "_" + service }

func (s *server) listServices(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "id", "label", "mode", "name", "runtime")
	if err != nil {
		return err
	}
	out, ids := []swarm.Service{}, s.networkIDs()
	for _, st := range s.Stacks.Stacks() {
		for i := range st.Services {
			svc := toService(&st, &st.Services[i], ids, flag(r, "status"))
			if f.prefix("id", svc.ID) && f.prefix("name", svc.Spec.Name) && f.labels(svc.Spec.Labels) &&
				f.exact("mode", modeOf(&svc)) && f.exact("runtime", "container") {
				out = append(out, svc)
			}
		}
	}
	return ok(w, out)
}

func modeOf(svc *swarm.Service) string {
	switch mode := &svc.Spec.Mode; {
	case mode.Global != nil:
		return "global"
	case mode.ReplicatedJob != nil:
		return "replicated-job"
	case mode.GlobalJob != nil:
		return "global-job"
	}
	return "replicated"
}

func (s *server) getService(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("id")
	var found []swarm.Service
	ids := s.networkIDs()
	for _, st := range s.Stacks.Stacks() {
		for i := range st.Services {
			svc := toService(&st, &st.Services[i], ids, false)
			if svc.ID == ref || svc.Spec.Name == ref {
				return ok(w, svc)
			}
			if strings.HasPrefix(svc.ID, ref) {
				found = append(found, svc)
			}
		}
	}
	switch len(found) {
	case 1:
		return ok(w, found[0])
	case 0:
		return notFound("service %s not found", ref)
	}
	return invalid("service %s is ambiguous (%d matches found)", ref, len(found))
}

// networkIDs are the IDs of the networks by name.
func (s *server) networkIDs() map[string]string {
	out := map[string]string{}
	for _, n := range s.Networks.Networks() {
		out[n.Name] = n.ID
	}
	return out
}

// toService is a service as Docker shows it; ids has the networks' IDs by name.
func toService(st *cluster.StackStatus, sum *cluster.ServiceStatus, ids map[string]string, status bool) swarm.Service {
	spec := st.Stack.Services[sum.Name]
	out := swarm.Service{ID: serviceID(st.Stack.Name, sum.Name), Meta: meta(sum.Version, st.Created, st.Updated)}
	labels := mergeLabels(spec.Labels, map[string]string{stackLabel: st.Stack.Name})
	out.Spec = swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: serviceName(st.Stack.Name, sum.Name), Labels: labels},
		TaskTemplate: toTaskSpec(&spec, first(spec.Container.Image, sum.Image)), Mode: toMode(&spec, sum),
		UpdateConfig: toUpdateConfig(spec.Deploy.Update), RollbackConfig: toUpdateConfig(spec.Deploy.Rollback),
	}
	out.Endpoint.Ports = toServicePorts(withHostPorts(&spec, sum.Ports))
	out.Endpoint.VirtualIPs = virtualIPs(sum.Addresses, ids)
	out.Endpoint.Spec.Mode = swarm.ResolutionMode(first(spec.Deploy.EndpointMode, "vip"))
	out.Endpoint.Spec.Ports = toServicePorts(spec.Container.Ports)
	end := out.Endpoint.Spec
	out.Spec.EndpointSpec = &end
	if status {
		out.ServiceStatus = &swarm.ServiceStatus{RunningTasks: uint64(max(sum.Running, 0)), DesiredTasks: uint64(max(sum.Wanted, 0)), CompletedTasks: uint64(max(sum.Completed, 0))} //nolint:gosec // counts
	}
	return out
}

func toMode(spec *stack.Service, sum *cluster.ServiceStatus) swarm.ServiceMode {
	n := uint64(max(spec.Replicas, 0)) //nolint:gosec // a count
	switch sum.Mode {
	case stack.Global:
		return swarm.ServiceMode{Global: &swarm.GlobalService{}}
	case stack.GlobalJob:
		return swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
	case stack.ReplicatedJob:
		atOnce := uint64(max(spec.MaxConcurrent, 0)) //nolint:gosec // a count
		if atOnce == 0 {
			atOnce = n
		}
		return swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &atOnce, TotalCompletions: &n}}
	}
	return swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}}
}

func toUpdateConfig(u *stack.UpdateRule) *swarm.UpdateConfig {
	if u == nil {
		return nil
	}
	return &swarm.UpdateConfig{Parallelism: uint64(max(u.Parallelism, 0)), Delay: u.Delay, FailureAction: swarm.FailureAction(u.FailureAction), //nolint:gosec // a count
		Monitor: u.Monitor, MaxFailureRatio: float32(u.MaxFailureRatio), Order: swarm.UpdateOrder(u.Order)}
}

func toServicePorts(ports []stack.Port) (out []swarm.PortConfig) {
	for _, p := range ports {
		out = append(out, swarm.PortConfig{Name: p.Name, Protocol: network.IPProtocol(first(p.Protocol, "tcp")), TargetPort: uint32(p.ContainerPort),
			PublishedPort: uint32(p.HostPort), PublishMode: swarm.PortConfigPublishMode(first(p.Mode, "ingress"))})
	}
	return out
}

func toTaskSpec(spec *stack.Service, image string) swarm.TaskSpec {
	c := &spec.Container
	out := swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{Image: image, Labels: mergeLabels(c.Labels, nil), Command: c.Entrypoint, Args: c.Command, Env: c.Env,
			Hostname: c.Hostname, Dir: c.WorkingDir, User: c.User, Groups: c.GroupAdd, TTY: c.TTY, OpenStdin: c.OpenStdin,
			ReadOnly: c.ReadOnly, StopSignal: c.StopSignal, StopGracePeriod: c.StopGrace, Hosts: c.ExtraHosts},
		Resources: &swarm.ResourceRequirements{Limits: &swarm.Limit{NanoCPUs: c.Resources.NanoCPUs, MemoryBytes: c.Resources.Memory, Pids: max(c.Resources.PidsLimit, 0)},
			Reservations: &swarm.Resources{NanoCPUs: c.Resources.ReservedNanoCPUs, MemoryBytes: c.Resources.ReservedMemory, GenericResources: toGeneric(c.Resources.Generic)}},
		Placement: &swarm.Placement{Constraints: spec.Deploy.Constraints, MaxReplicas: uint64(max(spec.Deploy.MaxReplicasPerNode, 0))}, //nolint:gosec // a count
		Runtime:   swarm.RuntimeContainer,
	}
	for _, p := range spec.Deploy.Preferences {
		out.Placement.Preferences = append(out.Placement.Preferences, swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: p}})
	}
	return out
}

func (s *server) listTasks(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "desired-state", "id", "label", "name", "node", "service", "_up-to-date")
	if err != nil {
		return err
	}
	for _, want := range f["desired-state"] {
		if want != "running" && want != "shutdown" && want != "accepted" {
			return invalid("invalid desired-state filter: '%s'", want)
		}
	}
	out, down := []swarm.Task{}, s.downNodes()
	for _, st := range s.Stacks.Stacks() {
		for i := range st.Tasks {
			t := toTask(&st, &st.Tasks[i], down)
			svc := serviceName(st.Stack.Name, st.Tasks[i].Service)
			if f.prefix("id", t.ID) && f.exact("node", t.NodeID) && f.exact("desired-state", string(t.DesiredState)) && f.labels(t.Labels) &&
				f.any("service", func(want string) bool { return want == svc || strings.HasPrefix(t.ServiceID, want) }) &&
				f.any("name", func(want string) bool { return strings.HasPrefix(svc, want) || strings.HasPrefix(t.Name, want) }) {
				out = append(out, t)
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].CreatedAt.After(out[j].CreatedAt) })
	return ok(w, out)
}

func (s *server) getTask(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("id")
	for _, st := range s.Stacks.Stacks() {
		for i := range st.Tasks {
			if st.Tasks[i].ID == ref {
				return ok(w, toTask(&st, &st.Tasks[i], s.downNodes()))
			}
		}
	}
	return notFound("task %s not found", ref)
}

var taskStates = map[stack.TaskState]swarm.TaskState{
	stack.TaskNew: swarm.TaskStateNew, stack.TaskPending: swarm.TaskStatePending, stack.TaskAssigned: swarm.TaskStateAssigned,
	stack.TaskPreparing: swarm.TaskStatePreparing, stack.TaskReady: swarm.TaskStateReady, stack.TaskRunning: swarm.TaskStateRunning,
	stack.TaskCompleted: swarm.TaskStateComplete, stack.TaskFailed: swarm.TaskStateFailed, stack.TaskRemoved: swarm.TaskStateShutdown,
}

// downNodes are the hostnames of the nodes that are down, by ID.
func (s *server) downNodes() map[string]string {
	if s.Cluster == nil {
		return nil
	}
	out := map[string]string{}
	for _, p := range s.Cluster.Peers() {
		if p.Down {
			out[p.ID] = first(p.Hostname, p.ID)
		}
	}
	return out
}

// orphan says of a task on a node that is down what is known: that it was there.
func orphan(out *swarm.Task, hostname string) {
	switch out.Status.State {
	case swarm.TaskStateComplete, swarm.TaskStateFailed, swarm.TaskStateShutdown:
		return // it had ended before
	}
	out.Status.State, out.Status.Err = swarm.TaskStateOrphaned, "node "+hostname+" is down"
}

// toTask is a task as Docker shows it; down has the hostnames of the nodes that are down.
func toTask(st *cluster.StackStatus, t *stack.Task, down map[string]string) swarm.Task {
	spec := st.Stack.Services[t.Service]
	out := swarm.Task{
		ID: t.ID, Meta: meta(t.Version, t.Created, t.Status.Time.UnixNano()), ServiceID: serviceID(st.Stack.Name, t.Service), Slot: t.Slot, NodeID: t.Node,
		Spec: toTaskSpec(&spec, spec.Container.Image), DesiredState: swarm.TaskStateRunning, Volumes: []swarm.VolumeAttachment{},
		Status: swarm.TaskStatus{Timestamp: t.Status.Time, State: taskStates[t.Status.State], Message: t.Status.Message},
	}
	out.Labels = mergeLabels(spec.Labels, map[string]string{stackLabel: st.Stack.Name})
	if t.Status.Time.IsZero() {
		out.UpdatedAt, out.Status.Timestamp = out.CreatedAt, time.Unix(0, t.Created).UTC()
	}
	switch t.Status.State {
	case stack.TaskFailed, stack.TaskPending:
		out.Status.Err = t.Status.Message
	}
	if host, gone := down[t.Node]; gone {
		orphan(&out, host)
	}
	switch t.Desired {
	case stack.DesiredCreate:
		out.DesiredState = swarm.TaskStateReady
	case stack.DesiredStop, stack.DesiredRemove:
		out.DesiredState = swarm.TaskStateShutdown
	}
	if spec.Mode == stack.Global || spec.Mode == stack.GlobalJob {
		out.Slot = 0
	}
	if t.Status.ContainerID != "" {
		out.Status.ContainerStatus = &swarm.ContainerStatus{ContainerID: t.Status.ContainerID, ExitCode: t.Status.ExitCode}
	}
	return out
}
