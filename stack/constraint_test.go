package stack

import (
	"slices"
	"strings"
	"testing"
)

func TestConstraints(t *testing.T) {
	n := &Node{
		ID: "a", Hostname: "host-a", Role: RoleWorker, OS: "linux", Architecture: "amd64", Addr: "10.1.2.3:2377",
		Labels: map[string]string{"zone": "East", "empty": ""}, EngineLabels: map[string]string{"disk": "ssd"},
	}
	for expr, want := range map[string]bool{
		"node.id==a": true, "node.id != a": false, "node.hostname==HOST-A": true, "NODE.Hostname == host-a": true,
		"node.role==worker": true, "node.role!=manager": true, "node.role == Manager": false,
		"node.labels.zone==east": true, "node.labels.zone!=east": false, "node.labels.Zone == east": false,
		"node.labels.none!=x": true, "node.labels.none==x": false, "node.labels.none ==": true,
		"node.platform.os==linux": true, "node.platform.arch==arm64": false,
		"engine.labels.disk == ssd": true, "engine.labels.disk exists": true, "engine.labels.none exists": false,
		"node.labels.zone in (west, EAST)": true, "node.labels.zone in (west)": false, "node.labels.zone not in (west, north)": true,
		"node.labels.zone NOT  IN (east)": false, "node.labels.none in (a)": false, "node.labels.none not in (a)": true, "node.labels.zone in(east)": true,
		"node.labels.empty exists": true, "node.labels.empty not exists": false, "node.labels.none not exists": true, "node.labels.none !exists": true, "node.labels.none ! exists": true,
		"node.ip == 10.1.2.3": true, "node.ip == 10.1.0.0/16": true, "node.ip != 10.1.0.0/16": false, "node.ip in (10.9.0.0/16, 10.1.2.3)": true,
		"service == db": true, "service != db": true, // of what runs there, not of the node
	} {
		c, err := ParseConstraint(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := c.Matches(n); got != want {
			t.Errorf("%s (read as %s) matches: %t", expr, c, got)
		}
	}
}

func TestConstraintsThatCannotBeRead(t *testing.T) {
	for expr, want := range map[string]string{
		"":                              "want KEY == VALUE",
		"node.id":                       "want KEY == VALUE",
		"node.id=a":                     "= is not a comparison; use ==",
		"node.id ~ a":                   `"~ a" is none of`,
		"node.nope==1":                  `there is no key "node.nope"; want node.id, `,
		"node.labels.==1":               `there is no key "node.labels."`,
		"node.labels.a == b == c":       "one constraint has one comparison",
		"node.labels.zone in east":      `"in east" is none of`,
		"node.labels.zone in":           "in parentheses",
		"node.labels.zone in (east":     "in parentheses",
		"node.labels.zone in ()":        "with commas between them",
		"node.labels.zone in (a,,b)":    "with commas between them",
		"node.labels.zone exists (a)":   "is none of",
		"node.labels.zone not":          "is none of",
		"node.role == chief":            "a node's role is manager or worker",
		"node.ip == here":               "neither an address nor a range",
		"service exists":                "service wants ==, !=, in or not in",
		"service ==":                    "service wants the name of a service",
		"node.labels.zone not in (a) b": "in parentheses",
	} {
		if _, err := ParseConstraint(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want ...%s...", expr, err, want)
		}
	}
}

// What is read says the same when it is written and read again.
func FuzzParseConstraint(f *testing.F) {
	for _, s := range []string{"node.id==a", "node.labels.a not in (b, c)", "service != shop/db", "engine.labels.x !exists", "node.ip==fd00::/8", "node.role in (manager)"} {
		f.Add(s)
	}
	n := &Node{ID: "a", Labels: map[string]string{"a": "b"}, Addr: "[fd00::1]:2377"}
	f.Fuzz(func(t *testing.T, expr string) {
		c, err := ParseConstraint(expr)
		if err != nil {
			return
		}
		again, err := ParseConstraint(c.String())
		if err != nil {
			t.Fatalf("%q is written %q, which cannot be read: %v", expr, c, err)
		}
		if again.Key != c.Key || again.Op != c.Op || !slices.Equal(again.Values, c.Values) || again.Matches(n) != c.Matches(n) {
			t.Fatalf("%q is written %q and read as %+v, was %+v", expr, c, again, c)
		}
	})
}

func TestVolumesThatPinAService(t *testing.T) {
	s := Stack{
		Volumes: map[string]Volume{
			"data":  {Name: "shop_data"},
			"cache": {Name: "shop_cache", Labels: map[string]string{ScopeLabel: ScopeNode}},
			"nas":   {Name: "shop_nas", DriverOpts: map[string]string{"type": "nfs4"}},
			"disk":  {Name: "shop_disk", DriverOpts: map[string]string{"type": "ext4"}},
		},
		Services: map[string]Service{},
	}
	var mounts []Mount
	for _, key := range []string{"disk", "nas", "data", "cache", "data", ""} {
		mounts = append(mounts, Mount{Type: MountVolume, Source: key})
	}
	svc := Service{Container: ContainerSpec{Mounts: append(mounts, Mount{Type: MountBind, Source: "data"})}}
	var names []string
	for _, v := range s.LocalVolumes(&svc) {
		names = append(names, v.Name)
	}
	if want := []string{"shop_data", "shop_disk"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	svc.Mode = Global
	if got := s.LocalVolumes(&svc); got != nil {
		t.Errorf("a global service is pinned by %v", got)
	}
}

func TestHomeOfRelativeBindMounts(t *testing.T) {
	s := Stack{Home: "n1", WorkingDir: "/srv/shop"}
	for _, c := range []struct {
		source, constraint string
		mode               Mode
		want               string
	}{
		{"/srv/shop/conf", "", "", "n1"},
		{"/srv/shop", "", "", "n1"},
		{"/srv/shop/..data", "", "", "n1"},
		{"/srv/shopping", "", "", ""},
		{"/etc/hosts", "", "", ""},
		{"/srv/shop/conf", "node.labels.a == b", "", ""},
		{"/srv/shop/conf", "service == db", "", "n1"},
		{"/srv/shop/conf", "", Global, ""},
	} {
		svc := Service{Mode: c.mode, Container: ContainerSpec{Mounts: []Mount{{Type: MountBind, Source: c.source}}}}
		if c.constraint != "" {
			svc.Deploy.Constraints = []string{c.constraint}
		}
		if got := s.HomeOf(&svc); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestPlacementIsValidated(t *testing.T) {
	s := Stack{Name: "shop", Volumes: map[string]Volume{"v": {Name: "v", Labels: map[string]string{ScopeLabel: "all"}}}, Services: map[string]Service{
		"web": {Name: "web", Container: ContainerSpec{Image: "web"}, Deploy: Deploy{
			Constraints: []string{"node.role == manager", "node.rule == manager", "service != dc", "service != other/dc"},
			Preferences: []string{"node.labels.zone", "zone"},
		}},
	}}
	err := s.Validate()
	if err == nil {
		t.Fatal("all was taken")
	}
	for _, want := range []string{
		`services.web.deploy.placement.constraints[1]: constraint "node.rule == manager": there is no key "node.rule"; want `,
		`services.web.deploy.placement.constraints[2]: there is no service dc`,
		`services.web.deploy.placement.preferences[1].spread: spread over "zone": want `,
		`volumes.v.labels.dhow.scope: "all" is not a scope`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 4 {
		t.Errorf("%d problems:\n%v", got, err)
	}
}
