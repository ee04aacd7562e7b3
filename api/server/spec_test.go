package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// TestInspectIsTheReverseOfCreate: a container made from what inspect says
// about another one is the same container.
func TestInspectIsTheReverseOfCreate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSpec(t)
		c := &runtime.Container{ID: strings.Repeat("a", 64), Name: "c", Spec: want}
		view := toInspect(c)
		var fields map[string]any
		config, _ := json.Marshal(view.Config)
		_ = json.Unmarshal(config, &fields)
		fields["HostConfig"] = view.HostConfig
		fields["NetworkingConfig"] = map[string]any{"EndpointsConfig": view.NetworkSettings.Networks}
		body, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		var req createRequest
		if err := decodeStrict(body, &req); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		got, _, err := toSpec(&req, surroundings{})
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b stack.Mount) bool { return a.Target < b.Target }),
			cmpopts.SortSlices(func(a, b stack.Port) bool { return fmt.Sprint(a) < fmt.Sprint(b) })); diff != "" {
			t.Fatalf("%s\n%s", diff, body)
		}
	})
}

func drawSpec(t *rapid.T) stack.ContainerSpec {
	word := func(name string) string { return rapid.StringMatching(`[a-z]{1,5}`).Draw(t, name) }
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	s := stack.ContainerSpec{
		Image: word("image"), User: word("user"), Hostname: word("hostname"), WorkingDir: "/" + word("dir"),
		Env: []string{word("key") + "=" + word("value")}, Labels: map[string]string{word("label"): word("value")},
		TTY: maybe("tty"), OpenStdin: maybe("stdin"), Init: maybe("init"), ReadOnly: maybe("ro"), Privileged: maybe("privileged"),
		NetworkMode: defaultNetwork, Networks: []stack.Attachment{{Network: defaultNetwork}},
		Log: stack.LogConfig{Driver: rapid.SampledFrom([]string{"json-file", "local", "none"}).Draw(t, "log")},
	}
	if maybe("command") {
		s.Command = []string{word("arg"), word("arg")}
	}
	if maybe("entrypoint") {
		s.Entrypoint = []string{word("arg")}
	}
	if maybe("grace") {
		d := rapid.SampledFrom([]time.Duration{0, 5 * time.Second, forever}).Draw(t, "grace value")
		s.StopGrace = &d
	}
	if maybe("health") {
		s.Healthcheck = &stack.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 2}
	}
	if maybe("restart") {
		s.Restart = stack.RestartPolicy{Condition: "on-failure", MaxAttempts: rapid.IntRange(0, 3).Draw(t, "attempts")}
	}
	if maybe("resources") {
		s.Resources = stack.Resources{NanoCPUs: 5e8, Memory: 1 << 26, PidsLimit: rapid.SampledFrom([]int64{-1, 0, 9}).Draw(t, "pids"), CpusetCpus: "0"}
	}
	if maybe("devices") {
		s.Devices = []stack.Device{{Source: "/dev/null", Target: "/dev/x", Permissions: "r"}, {Source: "vendor.com/gpu=all"}}
	}
	s.Mounts = drawMounts(t)
	for i := range rapid.IntRange(0, 2).Draw(t, "ports") {
		p := stack.Port{ContainerPort: uint16(80 + i), Protocol: rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol")}
		if maybe("host port") {
			p.HostPort, p.HostIP = uint16(8000+i), rapid.SampledFrom([]string{"", "127.0.0.1", "::1"}).Draw(t, "host IP")
		}
		s.Ports = append(s.Ports, p)
	}
	if maybe("second network") {
		s.Networks = append(s.Networks, stack.Attachment{Network: "n-" + word("network"), Aliases: []string{word("alias")}, IPv4: "10.0.0.7", GwPriority: 3, MacAddress: "02:00:00:00:00:01"})
	}
	return s
}

func drawMounts(t *rapid.T) (out []stack.Mount) {
	kinds := []stack.Mount{
		{Type: stack.MountBind, Source: "/src", CreateHostPath: true},
		{Type: stack.MountBind, Source: "/src", CreateHostPath: true, ReadOnly: true, Propagation: "rslave", SELinux: "z"},
		{Type: stack.MountBind, Source: "/src", RecursiveReadOnly: "writable", ReadOnly: true},
		{Type: stack.MountVolume, Source: "data"},
		{Type: stack.MountVolume, Source: "data", NoCopy: true, ReadOnly: true},
		{Type: stack.MountVolume, Source: "data", Subpath: "sub", VolumeLabels: map[string]string{"a": "b"}, VolumeDriver: "local", VolumeOpts: map[string]string{"o": "x"}},
		{Type: stack.MountVolume}, {Type: stack.MountVolume, ReadOnly: true},
		{Type: stack.MountTmpfs}, {Type: stack.MountTmpfs, TmpfsSize: 1 << 20, TmpfsMode: 0o1770, TmpfsOpts: []string{"noexec"}, ReadOnly: true},
		{Type: stack.MountImage, Source: "redis:7", Subpath: "etc"},
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "mounts") {
		m := rapid.SampledFrom(kinds).Draw(t, "mount")
		m.Target = fmt.Sprintf("/mnt/%d", i)
		out = append(out, m)
	}
	return out
}

func TestToSpecRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{}`: "an image is required",
		`{"Image":"x","HostConfig":{"Binds":["rel/path:/x"]}}`:                                                                            "neither an absolute path nor a volume's name",
		`{"Image":"x","HostConfig":{"Binds":["/a:rel"]}}`:                                                                                 "must be absolute",
		`{"Image":"x","HostConfig":{"Binds":["/a:/b:bad"]}}`:                                                                              "invalid mode: bad",
		`{"Image":"x","HostConfig":{"Binds":["/a:/b","/c:/b/"]}}`:                                                                         "Duplicate mount point: /b",
		`{"Image":"x","HostConfig":{"Binds":["/a:/"]}}`:                                                                                   "destination can't be '/'",
		`{"Image":"x","HostConfig":{"Mounts":[{"Type":"npipe","Target":"/x"}]}}`:                                                          `mount type "npipe" is not supported`,
		`{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/x","TmpfsOptions":{"SizeBytes":1}}]}}`:              "options of type tmpfs on a mount of type bind",
		`{"Image":"x","HostConfig":{"LogConfig":{"Type":"syslog"}}}`:                                                                      `unknown log driver "syslog"`,
		`{"Image":"x","HostConfig":{"LogConfig":{"Config":{"tag":"x"}}}}`:                                                                 `unknown log opt "tag"`,
		`{"Image":"x","HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}`:                                                               "unknown policy",
		`{"Image":"x","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`:                                                "can't create 'AutoRemove' container with restart policy",
		`{"Image":"x","HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"a":{}}}}`:                               "cannot join networks",
		`{"Image":"x","Hostname":"h","HostConfig":{"NetworkMode":"container:a"}}`:                                                         "conflicting options: hostname",
		`{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"70000"}]}}}`:                                                   "invalid host port",
		`{"Image":"x","HostConfig":{"DeviceRequests":[{"Driver":"nvidia","DeviceIDs":["0"]}]}}`:                                           "could not select device driver",
		`{"Image":"x","HostConfig":{"Isolation":"hyperv"}}`:                                                                               "Isolation",
		`{"Image":"x","HostConfig":{"IpcMode":"weird"}}`:                                                                                  "IpcMode",
		`{"Image":"x","Healthcheck":{"Interval":3}}`:                                                                                      "cannot be less than 1ms",
		`{"Image":"x","HostConfig":{"KernelMemory":1}}`:                                                                                   "HostConfig.KernelMemory is not supported",
		`{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b"}],"Links":["a"]}}`:                               "HostConfig.Links is not supported",
		`{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"a":{"Links":["b:c"]}}}}`:                                                    "EndpointsConfig[a].Links is not supported",
		`{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"x","No":true}}]}}`: "BindOptions.No: unknown field",
	} {
		var req createRequest
		err := decodeStrict([]byte(body), &req)
		if err == nil {
			_, _, err = toSpec(&req, surroundings{})
		}
		if err == nil || !strings.Contains(err.Error(), want) || statusOf(err) != 400 {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func TestToSpecDetails(t *testing.T) {
	img := &runtime.Image{ID: "sha256:1", Config: runtime.ImageConfig{Cmd: []string{"image", "cmd"}}}
	for body, check := range map[string]func(stack.ContainerSpec) bool{
		`{"Image":"x","Entrypoint":[""]}`: func(s stack.ContainerSpec) bool {
			return s.Entrypoint != nil && len(s.Entrypoint) == 0 && s.Command == nil
		},
		`{"Image":"x","Entrypoint":[]}`: func(s stack.ContainerSpec) bool { return s.Entrypoint != nil && len(s.Command) == 2 },
		`{"Image":"x","Entrypoint":7}`:  nil,
		`{"Image":"x","Entrypoint":"s h","Cmd":"a b"}`: func(s stack.ContainerSpec) bool { // one string is one word
			return len(s.Entrypoint) == 1 && s.Entrypoint[0] == "s h" && len(s.Command) == 1 && s.Command[0] == "a b"
		},
		`{"Image":"x","Cmd":[]}`: func(s stack.ContainerSpec) bool { return s.Command == nil },
		`{"Image":"x","HostConfig":{"NetworkMode":"default"}}`: func(s stack.ContainerSpec) bool {
			return s.NetworkMode == "bridge" && s.Networks[0].Network == "bridge"
		},
		`{"Image":"x","HostConfig":{"NetworkMode":"b"},"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`: func(s stack.ContainerSpec) bool { return s.Networks[0].Network == "b" && s.Networks[1].Network == "a" },
		`{"Image":"x","HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"none":{}}}}`:  func(s stack.ContainerSpec) bool { return s.NetworkMode == "none" && s.Networks == nil },
		`{"Image":"x","NetworkDisabled":true}`:                      func(s stack.ContainerSpec) bool { return s.NetworkMode == "none" },
		`{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[]}}}`: func(s stack.ContainerSpec) bool { return len(s.Ports) == 1 && s.Ports[0].HostPort == 0 },
		`{"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000-8010"}]}}}`: func(s stack.ContainerSpec) bool {
			p := s.Ports[0]
			return p.HostIP == "127.0.0.1" && p.HostPort == 8000 && p.HostPortEnd == 8010
		},
		`{"Image":"x","HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[{"HostPort":"80"}]}}}`: func(s stack.ContainerSpec) bool { return s.Ports == nil },
		`{"Image":"x","StopTimeout":-1}`: func(s stack.ContainerSpec) bool { return *s.StopGrace == forever },
		`{"Image":"x","HostConfig":{"MemorySwappiness":-1,"PidsLimit":-5}}`: func(s stack.ContainerSpec) bool {
			return s.Resources.MemorySwappiness == nil && s.Resources.PidsLimit == -1
		},
		`{"Image":"x","HostConfig":{"Binds":["data:/a:ro","/b"],"VolumeDriver":"local"},"Volumes":{"/c":{},"/a":{}}}`: func(s stack.ContainerSpec) bool {
			return len(s.Mounts) == 3 && s.Mounts[0].VolumeDriver == "local" && s.Mounts[0].ReadOnly
		},
	} {
		var req createRequest
		err := decodeStrict([]byte(body), &req)
		var spec stack.ContainerSpec
		if err == nil {
			spec, _, err = toSpec(&req, surroundings{image: img})
		}
		if check == nil {
			if err == nil {
				t.Errorf("%s was taken", body)
			}
			continue
		}
		if err != nil || !check(spec) {
			t.Errorf("%s: %+v, %v", body, spec, err)
		}
	}
}
