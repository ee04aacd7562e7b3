package stack

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func good() Stack {
	return Stack{
		Name:     "shop",
		Services: map[string]Service{"web": {Name: "web", Replicas: 2, Container: ContainerSpec{Image: "nginx", Networks: []Attachment{{Network: "n"}}}}, "db": {Name: "db", Replicas: 1, Container: ContainerSpec{Image: "pg"}}},
		Networks: map[string]Network{"n": {Name: "shop_n", Subnets: []Subnet{{CIDR: "10.1.0.0/24"}}}},
		Volumes:  map[string]Volume{"v": {Name: "shop_v"}},
		Secrets:  map[string]Secret{"s": {Name: "shop_s"}},
	}
}

// TestValidate has one line per problem: what is changed, and what Validate then says.
func TestValidate(t *testing.T) {
	if err := good().Validate(); err != nil {
		t.Fatalf("a good stack: %v", err)
	}
	mode := uint32(0o10000)
	minus := -time.Second
	swappy := int64(101)
	for _, c := range []struct {
		want   string
		change func(*Service)
	}{
		{"services.web: has no image", func(s *Service) { s.Container.Image = "" }},
		{"services.web.deploy.mode: \"odd\" is none of", func(s *Service) { s.Mode = "odd" }},
		{"services.web.deploy.replicas: -1 is less", func(s *Service) { s.Replicas = -1 }},
		{"services.web.container_name: only one container", func(s *Service) { s.ContainerName = "w" }},
		{"services.web.container_name: \"?\" is not", func(s *Service) { s.ContainerName, s.Replicas = "?", 1 }},
		{"services.web.depends_on.gone: there is no service gone", func(s *Service) { s.DependsOn = []Dependency{{Service: "gone", Condition: Started}} }},
		{"services.web.depends_on.off: service off is not enabled", func(s *Service) { s.DependsOn = []Dependency{{Service: "off", Condition: Started}} }},
		{"services.web.depends_on.db: condition \"x\"", func(s *Service) { s.DependsOn = []Dependency{{Service: "db", Condition: "x"}} }},
		{"services.web.depends_on.web: dependency cycle: web -> web", func(s *Service) { s.DependsOn = []Dependency{{Service: "web", Condition: Started}} }},
		{"services.web.pid: there is no service gone", func(s *Service) { s.Container.PIDMode = "service:gone" }},
		{"services.web.volumes_from[0]: there is no service gone", func(s *Service) { s.Container.VolumesFrom = []string{"service:gone:ro"} }},
		{"services.web.links[0]: there is no service gone", func(s *Service) { s.Links = []string{"gone:g"} }},
		{"services.web.networks.gone: network gone is not defined", func(s *Service) { s.Container.Networks = []Attachment{{Network: "gone"}} }},
		{"services.web.networks.n.ipv4_address: 10.2.0.1 is in no subnet", func(s *Service) { s.Replicas = 1; s.Container.Networks[0].IPv4 = "10.2.0.1" }},
		{"services.web.networks.n.ipv4_address: \"::1\" is not such", func(s *Service) { s.Container.Networks[0].IPv4 = "::1" }},
		{"services.web.networks.n.ipv4_address: only one task", func(s *Service) { s.Container.Networks[0].IPv4 = "10.1.0.5" }},
		{"services.web.networks.n.mac_address", func(s *Service) { s.Container.Networks[0].MacAddress = "zz" }},
		{"services.web.network_mode: network_mode and networks exclude", func(s *Service) { s.Container.NetworkMode = "host" }},
		{"services.web.ports: with network_mode host", func(s *Service) {
			s.Container.NetworkMode, s.Container.Networks, s.Container.Ports = "host", nil, []Port{{ContainerPort: 1}}
		}},
		{"services.web.ports[0]: port 0 is out of range", func(s *Service) { s.Container.Ports = []Port{{}} }},
		{"services.web.ports[0]: host ports 5-4 run backwards", func(s *Service) { s.Container.Ports = []Port{{HostPort: 5, HostPortEnd: 4, ContainerPort: 1}} }},
		{"services.web.ports[0]: \"icmp\" is none of", func(s *Service) { s.Container.Ports = []Port{{ContainerPort: 1, Protocol: "icmp"}} }},
		{"services.web.ports[1]: host port 5/tcp is already", func(s *Service) {
			s.Container.Ports = []Port{{HostPort: 5, ContainerPort: 1}, {HostIP: "127.0.0.1", HostPort: 5, ContainerPort: 2}}
		}},
		{"services.web.volumes[0]: volume gone is not defined", func(s *Service) { s.Container.Mounts = []Mount{{Type: MountVolume, Source: "gone", Target: "/x"}} }},
		{"services.web.volumes[1]: something else is already", func(s *Service) {
			s.Container.Mounts = []Mount{{Type: MountVolume, Target: "/x"}, {Type: MountTmpfs, Target: "/x/"}}
		}},
		{"services.web.volumes[0]: target \"x\"", func(s *Service) { s.Container.Mounts = []Mount{{Type: MountTmpfs, Target: "x"}} }},
		{"services.web.volumes[0]: nothing can be mounted on /", func(s *Service) { s.Container.Mounts = []Mount{{Type: MountTmpfs, Target: "/"}} }},
		{"services.web.volumes[0]: type \"npipe\"", func(s *Service) { s.Container.Mounts = []Mount{{Type: MountNpipe, Target: "/x"}} }},
		{"services.web.volumes[0]: source \"a\"", func(s *Service) { s.Container.Mounts = []Mount{{Type: MountBind, Source: "a", Target: "/x"}} }},
		{"services.web.volumes[0]: subpath", func(s *Service) {
			s.Container.Mounts = []Mount{{Type: MountVolume, Source: "v", Target: "/x", Subpath: "../y"}}
		}},
		{"services.web.secrets[0]: gone is not defined", func(s *Service) { s.Container.Secrets = []FileRef{{Source: "gone", Target: "/x"}} }},
		{"services.web.secrets[0]: target", func(s *Service) { s.Container.Secrets = []FileRef{{Source: "s", Target: "x"}} }},
		{"services.web.secrets[0]: mode", func(s *Service) { s.Container.Secrets = []FileRef{{Source: "s", Target: "/x", Mode: &mode}} }},
		{"services.web.healthcheck.test: starts with", func(s *Service) { s.Container.Healthcheck = &Healthcheck{Test: []string{"true"}} }},
		{"services.web.healthcheck.test: has no command", func(s *Service) { s.Container.Healthcheck = &Healthcheck{Test: []string{"CMD"}} }},
		{"services.web.healthcheck.interval", func(s *Service) { s.Container.Healthcheck = &Healthcheck{Interval: 5} }},
		{"services.web.stop_grace_period", func(s *Service) { s.Container.StopGrace = &minus }},
		{"services.web.restart: \"sometimes\"", func(s *Service) { s.Container.Restart.Condition = "sometimes" }},
		{"services.web.mem_limit: 5 bytes", func(s *Service) { s.Container.Resources.Memory = 5 }},
		{"services.web.memswap_limit: is memory and swap", func(s *Service) { s.Container.Resources.Memory, s.Container.Resources.MemorySwap = 8<<20, 7<<20 }},
		{"services.web.mem_swappiness", func(s *Service) { s.Container.Resources.MemorySwappiness = &swappy }},
		{"services.web.cpus: cannot be negative", func(s *Service) { s.Container.Resources.NanoCPUs = -1 }},
		{"services.web.cpus: cpus and cpu_period", func(s *Service) { s.Container.Resources.NanoCPUs, s.Container.Resources.CPUQuota = 1, 1 }},
		{"services.web.oom_score_adj", func(s *Service) { s.Container.OOMScoreAdj = 1001 }},
		{"services.web.ulimits.nofile", func(s *Service) { s.Container.Ulimits = []Ulimit{{"nofile", 5, 4}} }},
		{"services.web.dns[0]", func(s *Service) { s.Container.DNS = []string{"x"} }},
		{"services.web.extra_hosts.a", func(s *Service) { s.Container.ExtraHosts = []string{"a:b"} }},
		{"services.web.uts: \"private\"", func(s *Service) { s.Container.UTSMode = "private" }},
		{"services.web.environment[0]", func(s *Service) { s.Container.Env = []string{"=x"} }},
	} {
		s := good()
		s.Disabled = []string{"off"}
		web := s.Services["web"]
		c.change(&web)
		s.Services["web"] = web
		var problems Problems
		if err := s.Validate(); !errors.As(err, &problems) || len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// TestValidateReportsAll: nothing hides behind the first problem.
func TestValidateReportsAll(t *testing.T) {
	s := good()
	s.Name = "Shop!"
	s.Networks["n"] = Network{Name: "", Driver: "odd", Subnets: []Subnet{{CIDR: "10.1.0.1/24", Gateway: "10.2.0.1", Range: "10.3.0.0/25", Aux: map[string]string{"a": "b"}}, {CIDR: "x"}, {Gateway: "10.1.0.1"}}}
	s.Networks["m"] = Network{Name: "m", Subnets: []Subnet{{CIDR: "10.1.0.0/16"}}}
	s.Services["bad name"] = Service{Name: "other", Replicas: 1, Container: ContainerSpec{Image: "x", Ports: []Port{{HostPort: 80, ContainerPort: 80}}}}
	db := s.Services["db"]
	db.Container.Ports = []Port{{HostPort: 80, ContainerPort: 80}}
	s.Services["db"] = db
	var got []string
	var problems Problems
	if !errors.As(s.Validate(), &problems) {
		t.Fatal("valid")
	}
	for _, p := range problems {
		got = append(got, p.Path)
	}
	want := []string{"name", "networks.n", "networks.n.driver", "networks.n.ipam.config[0]", "networks.n.ipam.config[0]", "networks.n.ipam.config[0]",
		"networks.n.ipam.config[0].aux_addresses.a", "networks.n.ipam.config[1]", "networks.n.ipam.config[2]", "services.bad name", "services.db.ports[0]", "networks.n.ipam.config[0]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}
