package agent

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func assignment() stack.Assignment {
	return stack.Assignment{
		Task: stack.Task{ID: "t1", Stack: "shop", Service: "web", Slot: 2},
		Hash: "h",
		Stack: &stack.Stack{
			Name: "shop", WorkingDir: "/src", Files: []string{"/src/a.yaml", "/src/b.yaml"},
			Networks: map[string]stack.Network{"front": {Name: "shop_front"}},
			Volumes:  map[string]stack.Volume{"data": {Name: "shop_data"}},
		},
		Service: &stack.Service{
			Name:      "web",
			DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Healthy, Restart: true}},
			Container: stack.ContainerSpec{
				Image: "web:1", Labels: map[string]string{"mine": "yes"},
				Networks: []stack.Attachment{{Network: "front", Aliases: []string{"www"}}},
				Mounts: []stack.Mount{
					{Type: stack.MountVolume, Source: "data", Target: "/data"},
					{Type: stack.MountVolume, Target: "/cache"},
					{Type: stack.MountBind, Source: "data", Target: "/host"},
				},
				PIDMode: "service:db", VolumesFrom: []string{"service:db:ro", "other"},
				Secrets: []stack.FileRef{{Source: "pw", Target: "/run/secrets/pw"}},
			},
		},
		Secrets: map[string][]byte{"pw": []byte("one")},
	}
}

func TestSpecResolvesNames(t *testing.T) {
	a := assignment()
	a.Task.Anonymous = map[string]string{"/cache": "anon1", "/var/db": "anon2", "/no/more": "anon3"}
	before := assignment().Service.Clone()
	img := &runtime.Image{ID: "sha256:1", Config: runtime.ImageConfig{Volumes: []string{"/var/db"}}}
	got, err := Spec(a, "cl", img, map[string]string{"db": "abc"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*a.Service, before) {
		t.Error("the shared spec was changed")
	}
	if got.ImageID != "sha256:1" || got.PIDMode != "container:abc" || !reflect.DeepEqual(got.VolumesFrom, []string{"abc:ro", "other"}) {
		t.Errorf("image %s, pid %s, volumes from %v", got.ImageID, got.PIDMode, got.VolumesFrom)
	}
	if n := got.Networks[0]; n.Network != "shop_front" || !reflect.DeepEqual(n.Aliases, []string{"www", "web"}) {
		t.Errorf("network %+v", n)
	}
	var sources []string
	for _, m := range got.Mounts {
		sources = append(sources, m.Target+"="+m.Source)
	}
	if s := strings.Join(sources, " "); s != "/data=shop_data /cache=anon1 /host=data /var/db=anon2" {
		t.Errorf("mounts %s", s)
	}
	if string(got.Secrets[0].Data) != "one" {
		t.Errorf("secret %q", got.Secrets[0].Data)
	}
	for k, want := range map[string]string{
		"mine": "yes", "com.docker.compose.project": "shop", "com.docker.compose.service": "web", "com.docker.compose.container-number": "2",
		"com.docker.compose.config-hash": "h", "com.docker.compose.oneoff": "False", "com.docker.compose.depends_on": "db:service_healthy:true",
		"com.docker.compose.project.config_files": "/src/a.yaml,/src/b.yaml", LabelTask: "t1", LabelCluster: "cl",
	} {
		if got.Labels[k] != want {
			t.Errorf("label %s is %q, want %q", k, got.Labels[k], want)
		}
	}
}

func TestSpecErrors(t *testing.T) {
	img := &runtime.Image{ID: "sha256:1"}
	if _, err := Spec(assignment(), "cl", img, nil); err == nil || err.Error() != "waits for a container of service db on this node" {
		t.Errorf("without its peer: %v", err)
	}
	a := assignment()
	a.Secrets = nil
	if _, err := Spec(a, "cl", img, map[string]string{"db": "abc"}); err == nil || !strings.Contains(err.Error(), "secret pw has no content") {
		t.Errorf("without the secret: %v", err)
	}
}

func TestJobsAreNotDoneTwice(t *testing.T) {
	a := assignment()
	a.Service.Mode, a.Service.Container.Restart.Condition = stack.ReplicatedJob, "always"
	got, err := Spec(a, "cl", &runtime.Image{}, map[string]string{"db": "abc"})
	if err != nil || got.Restart.Condition != "on-failure" {
		t.Errorf("restart %q, %v", got.Restart.Condition, err)
	}
}

func TestOnlyWhatIsExclusiveNeedsALease(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		a := assignment()
		a.Service.Exclusive = exclusive
		got, err := Spec(a, "cl", &runtime.Image{ID: "sha256:1"}, map[string]string{"db": "abc"})
		if err != nil || got.Leased != exclusive {
			t.Errorf("exclusive %v: leased %v, %v", exclusive, got.Leased, err)
		}
	}
}
