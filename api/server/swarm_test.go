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
	c.run(words("info --format {{.Swarm.Cluster.Spec.Labels}}"), "dhow.vni-range:65536-16777215")
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
	spec := stack.Service{Name: "web", Replicas: 2, Container: stack.ContainerSpec{Image: "nginx:latest", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 81}, {HostPort: 9000, ContainerPort: 82, Mode: "host"}}},
		Deploy: stack.Deploy{Constraints: []string{"node.role == worker"}, Update: &stack.UpdateRule{Parallelism: 1, Order: "start-first"}}}
	_, _, err := f.stacks.Deploy(t.Context(), cluster.Deployment{Stack: stack.Stack{Name: "shop", Services: map[string]stack.Service{"web": spec},
		Secrets: map[string]stack.Secret{"key": {Name: "shop_key"}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.stacks.mu.Lock()
	st := f.stacks.all["shop"]
	st.Services = append(st.Services, cluster.ServiceStatus{Name: "web", Image: "nginx:latest", Wanted: 2, Running: 1, Version: 3,
		Ports: []uint16{30005}, Addresses: []stack.TaskAddress{{Network: "shop_front", IPv4: "10.0.0.2", IPv6: "fd00::2"}}})
	st.Tasks = []stack.Task{
		{ID: "task1", Stack: "shop", Service: "web", Slot: 1, Node: "node2", Created: 1, Status: stack.TaskStatus{State: stack.TaskRunning, ContainerID: "abc"}},
		{ID: "task2", Stack: "shop", Service: "web", Slot: 2, Node: "node3", Created: 2, Status: stack.TaskStatus{State: stack.TaskFailed, Message: "no such file"}, Desired: stack.DesiredRemove},
	}
	f.stacks.all["shop"] = st
	f.stacks.mu.Unlock()
	c := newCLI(t, f.nodes[2].socket)
	c.run(words("service ls"), "shop_web", "replicated", "1/2", "nginx:latest", "*:8080->80/tcp, *:30005->81/tcp")
	c.run(words("service inspect shop_web --format {{.Endpoint.VirtualIPs}}"), "10.0.0.2/32", "fd00::2/128")
	c.run(words("service inspect shop_web --format {{.Endpoint.Spec.Mode}}"), "vip")
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

// What spans nodes is shown as Docker shows it: scope, peers, services, the network of published ports.
func TestDockerCLINetworksOfACluster(t *testing.T) {
	f := newFleet(t, 3)
	f.networks.mu.Lock()
	f.networks.all["ingress"] = stack.Network{Name: "ingress", ID: strings.Repeat("1", 64), Driver: "overlay", VNI: 1}
	f.networks.all["front"] = stack.Network{Name: "front", ID: strings.Repeat("2", 64), Driver: "overlay", Attachable: true, VNI: 2}
	f.networks.all["plain"] = stack.Network{Name: "plain", ID: strings.Repeat("3", 64), Driver: "bridge", VNI: 3}
	f.networks.views = map[string]stack.NetworkView{"front": {
		Nodes:     []stack.NetworkNode{{ID: "node1", Hostname: "host1", Addr: "10.0.0.1"}, {ID: "node2", Hostname: "host2", Addr: "fd00::2"}},
		Services:  []stack.ServiceAddress{{Service: "shop/web", IPv4: "10.1.0.2"}, {Service: "shop/db"}},
		Endpoints: []stack.Endpoint{{ID: "task1", Name: "shop-web-1", Service: "shop/web", Node: "node2", IPv4: "10.2.0.5"}},
		Published: []stack.Published{{Service: "shop/web", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}},
	}}
	f.networks.mu.Unlock()
	for _, n := range f.nodes { // the worker asks the leader
		c := newCLI(t, n.socket)
		c.run(words("network ls --filter scope=swarm --format {{.Name}}"), "front\ningress")
		c.run(words("network ls --filter scope=local --format {{.Name}}"), "bridge\nhost\nnone\nplain")
		c.run(words("network inspect ingress --format {{.Ingress}}-{{.Scope}}"), "true-swarm")
		c.run(words("network inspect front --format {{.Peers}}"), "host1 10.0.0.1", "host2 fd00::2")
		for path, code := range map[string]int{"front?scope=swarm": 200, "front?scope=local": 404, "plain?scope=local": 200, "plain?scope=swarm": 404} {
			n.get(t, "/networks/"+path, code, nil)
		}
		if out := c.run(words("network inspect front")); strings.Contains(out, `"VIP"`) {
			t.Error(out)
		}
		c.run(words("network inspect --verbose front"), `"shop_web"`, `"VIP": "10.1.0.2"`, "Target: 80, Publish: 8080", `"Name": "shop-web-1"`, `"EndpointIP": "10.2.0.5"`, `"Host IP": "fd00::2"`, `"shop_db"`)
	}
	c := newCLI(t, f.nodes[0].socket)
	c.fails(words("network create --ingress -d overlay more"), "Ingress")
	c.fails(words("network create --config-only more"), "ConfigOnly")
	c.fails(words("network create --config-from front more"), "ConfigFrom")
	c.fails(words("network create -d macvlan more"), "there are bridge and overlay")
	c.fails(words("network create --ipam-driver other more"), "there is default")
}

// Where addresses and identifiers come from is read, checked and shown.
func TestAddressSettingsOfASwarm(t *testing.T) {
	f := newFleet(t, 2)
	f.mu.Lock()
	f.alone = true
	f.mu.Unlock()
	c := newCLI(t, f.nodes[0].socket)
	init := "swarm init --advertise-addr 10.0.0.1 "
	c.fails(words(init+"--default-addr-pool 10.1.0.0/26"), "no subnets of size 24")
	c.fails(words(init+"--default-addr-pool 10.1.0.0/16 --default-addr-pool 10.1.4.0/22"), "overlap")
	c.fails(words(init+"--default-addr-pool fd00::/80"), "/64")
	c.fails(words(init+"--data-path-port 80"), "1024")
	c.run(words(init+"--default-addr-pool 10.1.0.0/16 --default-addr-pool fd00:1::/48 --default-addr-pool-mask-length 26 --data-path-port 5789 --data-path-addr 10.0.0.9"), "is now a manager")
	set := f.settings()
	if strings.Join(set.AddressPools, " ") != "10.1.0.0/16 fd00:1::/48" || set.SubnetSize != 26 || set.DataPathPort != 5789 {
		t.Errorf("settings: %+v", set)
	}
	c.run(words("info"), "Default Address Pool: 10.1.0.0/16", "SubnetSize: 26", "Data Path Port: 5789")
	for text, want := range map[string][2]int{"5000-5999": {5000, 5999}, "": {}, "65536-16777215": {}, "7-7": {7, 7}} {
		low, high, err := vniRange(text)
		if err != nil || [2]int{low, high} != want {
			t.Errorf("%q: %d to %d, %v", text, low, high, err)
		}
	}
	for _, text := range []string{"5", "0-9", "9-5", "1-16777216", "a-b", "1-2-3"} {
		if _, _, err := vniRange(text); err == nil {
			t.Errorf("%q is taken for a range", text)
		}
	}
}
