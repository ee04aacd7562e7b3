package server

import (
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

// The docker command line makes a cluster and shows it.
func TestDockerCLISwarm(t *testing.T) {
	f := newFleet(t, 3)
	f.mu.Lock()
	f.alone = true
	f.mu.Unlock()
	c := newCLI(t, f.nodes[0].socket)
	c.run(words("info"), "Swarm: inactive")
	c.fails(words("swarm join-token worker"), "not a swarm manager")
	c.run(words("swarm init --advertise-addr 10.0.0.1 --task-history-limit 3 --cert-expiry 48h"), "(node1) is now a manager", "--token DHOWTKN-1-worker-7 10.0.0.1:2377")
	c.fails(words("swarm init"), "already part of a swarm")
	c.fails(words("swarm leave"), "participating as a manager")
	if set := f.settings(); set.TaskHistory != 3 || set.CertExpiry.Hours() != 48 {
		t.Errorf("settings: %+v", set)
	}
	info := c.run(words("info"), "Swarm: active", "NodeID: node1", "Is Manager: true", "Managers: 2", "Nodes: 3", "Task History Retention Limit: 3", "Expiry Duration: 2 days", "10.0.0.1:2377")
	if strings.Contains(info, "WARNING") && strings.Contains(info, "swarm") {
		t.Error(info)
	}

	worker := newCLI(t, f.nodes[2].socket)
	worker.run(words("info"), "Swarm: active", "Is Manager: false")
	for _, any := range []*cli{c, worker} {
		ls := any.run(words("node ls"), "host1", "host2", "host3", "Leader", "Reachable", "0.1-test")
		if strings.Count(ls, "*") != 1 || strings.Count(ls, "Ready") != 3 {
			t.Error(ls)
		}
	}
	c.run(words("node ls -q --filter role=worker"), "node3")
	c.run(words("node inspect self --format {{.Spec.Role}}"), "manager")
	worker.run(words("node update --availability drain --label-add zone=a host2"), "host2")
	c.run(words("node inspect host2 --pretty"), "zone=a", "Drain", "linux")
	c.run(words("node promote host3"), "promoted")
	c.run(words("node demote host3"), "demoted")
	c.run(words("node ls --filter node.label=zone=a -q"), "node2")
	c.fails(words("node rm host3"), "not down")
	c.run(words("node rm -f host3"), "host3")
	c.fails(words("node inspect host3"), "host3")

	c.run(words("swarm join-token -q manager"), "DHOWTKN-1-manager-7")
	c.run(words("swarm join-token --rotate -q worker"), "DHOWTKN-1-worker-8")
	c.run(words("swarm update --task-history-limit 0 --snapshot-interval 100"), "Swarm updated")
	if set := f.settings(); set.TaskHistory != -1 || set.SnapshotInterval != 100 || set.CertExpiry.Hours() != 48 {
		t.Errorf("settings: %+v", set)
	}
	c.run(words("info"), "Task History Retention Limit: 0")
	c.fails(words("swarm update --autolock=true"), "autolock")
	c.fails(words("swarm update --external-ca protocol=cfssl,url=https://x"), "ExternalCAs")
	c.fails(words("swarm update --cert-expiry 59s"), "minimum certificate expiry time is 1m0s, not 59s")
	c.run(words("swarm update --cert-expiry 1m"), "Swarm updated")
	if f.set.CertExpiry != cluster.MinCertExpiry {
		t.Errorf("certificates live %s", f.set.CertExpiry)
	}
	c.run(words("swarm ca"), "BEGIN CERTIFICATE")
	c.run(words("swarm ca --rotate -d -q"))
	if log := f.log(); !strings.HasSuffix(log, "ca") || !strings.Contains(log, "update {Worker:true Manager:false}") {
		t.Error(log)
	}
	c.run(words("swarm leave --force"), "left the swarm")
	c.run(words("swarm join --token DHOWTKN-1-x 10.0.0.2:2377"), "joined a swarm")
}

// Services and tasks of stacks are there for docker's tools to look at.
func TestDockerCLIServices(t *testing.T) {
	f := newFleet(t, 3)
	spec := stack.Service{Name: "web", Replicas: 2, Container: stack.ContainerSpec{Image: "nginx:latest", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}},
		Deploy: stack.Deploy{Constraints: []string{"node.role == worker"}, Update: &stack.UpdateRule{Parallelism: 1, Order: "start-first"}}}
	_, _, err := f.stacks.Deploy(t.Context(), cluster.Deployment{Stack: stack.Stack{Name: "shop", Services: map[string]stack.Service{"web": spec},
		Secrets: map[string]stack.Secret{"key": {Name: "shop_key"}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.stacks.mu.Lock()
	st := f.stacks.all["shop"]
	st.Services = append(st.Services, cluster.ServiceStatus{Name: "web", Image: "nginx:latest", Wanted: 2, Running: 1, Version: 3})
	st.Tasks = []stack.Task{
		{ID: "task1", Stack: "shop", Service: "web", Slot: 1, Node: "node2", Created: 1, Status: stack.TaskStatus{State: stack.TaskRunning, ContainerID: "abc"}},
		{ID: "task2", Stack: "shop", Service: "web", Slot: 2, Node: "node3", Created: 2, Status: stack.TaskStatus{State: stack.TaskFailed, Message: "no such file"}, Desired: stack.DesiredRemove},
	}
	f.stacks.all["shop"] = st
	f.stacks.mu.Unlock()
	c := newCLI(t, f.nodes[2].socket)
	c.run(words("service ls"), "shop_web", "replicated", "1/2", "nginx:latest", "*:8080->80/tcp")
	c.run(words("service ps shop_web"), "shop_web.1", "host2", "Running", "shop_web.2", "Failed", "no such file")
	c.run(words("service inspect shop_web --pretty"), "node.role == worker", "start-first", "nginx:latest")
	c.run(words("node ps host2"), "shop_web.1")
	c.run(words("stack ls"), "shop")
	c.run(words("stack services shop"), "shop_web")
	c.run(words("stack ps shop"), "shop_web.2")
	c.run(words("secret ls"), "shop_key")
	c.fails(words("service rm shop_web"), "dhow up")
	c.fails(words("service inspect nothing"), "nothing")
}
