package dockercli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
)

// The tests here are the points where servers that speak Docker's API went
// wrong before, each against a real daemon with raw requests: a client library
// forgives what a program written in another language does not.

func TestWaitAnswersAtOnceAndMissesNothing(t *testing.T) {
	d := New(t, "busybox:latest")
	for i := range 10 {
		id := d.create(fmt.Sprint("fast", i), fmt.Sprintf(`"Cmd":["sh","-c","exit %d"]`, i))
		resp := d.ask("POST", "/containers/"+id+"/wait?condition=next-exit", "") // returns: the head is there before the start
		d.call("POST", "/containers/"+id+"/start", "", 204, nil)
		var st struct {
			StatusCode int
			Error      *struct{ Message string }
		}
		if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || st.StatusCode != i || st.Error != nil {
			t.Errorf("wait: %+v, %v, want %d", st, err, i)
		}
		d.call("POST", "/containers/"+id+"/wait", "", 200, &st) // after the end too
		if st.StatusCode != i {
			t.Errorf("wait after the end: %+v", st)
		}
	}
	id := d.create("removed", `"Cmd":["true"],"HostConfig":{"AutoRemove":true}`)
	resp := d.ask("POST", "/containers/"+id+"/wait?condition=removed", "")
	d.call("POST", "/containers/"+id+"/start", "", 204, nil)
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"StatusCode":0`) {
		t.Errorf("wait for the removal: %s, %v", body, err)
	}
	d.call("GET", "/containers/"+id+"/json", "", 404, nil)
	d.call("POST", "/containers/fast0/wait?condition=nonsense", "", 400, nil)
}

func TestAttachIsLiveBeforeItAnswers(t *testing.T) {
	d := New(t, "busybox:latest")
	for i := range 10 {
		id := d.create(fmt.Sprint("c", i), `"Cmd":["echo","first words"],"AttachStdout":true`)
		_, stream := d.upgrade("/v1.44/containers/"+id+"/attach?stream=1&stdout=1&stderr=1", "")
		d.call("POST", "/containers/"+id+"/start", "", 204, nil)
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, stream); err != nil || out.String() != "first words\n" {
			t.Errorf("attached: %q, %v", out.String(), err)
		}
	}
}

func TestHalfCloseGoesBothWays(t *testing.T) {
	d := New(t, "busybox:latest")
	id := d.create("cat", `"Cmd":["sh","-c","cat; echo the end >&2"],"OpenStdin":true,"StdinOnce":true`)
	conn, stream := d.upgrade("/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "")
	d.call("POST", "/containers/"+id+"/start", "", 204, nil)
	_, _ = io.WriteString(conn, "through")
	if err := conn.CloseWrite(); err != nil { // our direction ends, the other goes on
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, stream); err != nil || out.String() != "through" || errs.String() != "the end\n" {
		t.Errorf("attach: %q %q %v", out.String(), errs.String(), err)
	}
	d.Run("run -d --name app busybox sleep 1000")
	var made struct{ ID string }
	d.call("POST", "/containers/app/exec", `{"Cmd":["sh","-c","cat; exit 9"],"AttachStdin":true,"AttachStdout":true}`, 201, &made)
	conn, stream = d.upgrade("/exec/"+made.ID+"/start", `{}`)
	_, _ = io.WriteString(conn, "also through")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if _, err := stdcopy.StdCopy(&out, io.Discard, stream); err != nil || out.String() != "also through" {
		t.Errorf("exec: %q %v", out.String(), err)
	}
	d.exitCode(made.ID, 9) // the stream has ended: the code is final
}

// Events are flushed one by one, with Docker's names, and health only when it changes.
func TestEventsComeAtOnce(t *testing.T) {
	d := New(t, "busybox:latest")
	filter := url.QueryEscape(`{"type":["container"],"container":{"app":true}}`)
	resp := d.ask("GET", "/events?filters="+filter, "") // the head comes without an event
	lines := bufio.NewScanner(resp.Body)
	next := func() (e event) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("events ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	expect := func(action string) {
		t.Helper()
		if e := next(); e.Action != action {
			t.Errorf("event %q, want %q", e.Action, action)
		}
	}
	d.call("POST", "/containers/create?name=app", `{"Image":"busybox","Cmd":["sh","-c","touch /ok; trap 'exit 4' TERM; while :; do sleep 0.05; done"],
		"Healthcheck":{"Test":["CMD","test","-e","/ok"],"Interval":50000000,"Retries":2}}`, 201, nil)
	expect("create")
	d.call("POST", "/containers/app/start", "", 204, nil)
	expect("start")
	seen := []string{}
	healthy := func(want string) {
		t.Helper()
		for {
			e := next()
			if strings.HasPrefix(e.Action, "exec_") {
				continue // of the probes
			}
			if seen = append(seen, e.Action); e.Action != "health_status: "+want {
				t.Fatalf("event %q, want health_status: %s; before %v", e.Action, want, seen)
			}
			return
		}
	}
	healthy("healthy")
	d.Run("exec app rm /ok")
	healthy("unhealthy")
	d.Run("exec app touch /ok")
	healthy("healthy") // each change once, though the probe runs twenty times a second
	d.call("POST", "/containers/app/rename?name=app2", "", 204, nil)
	d.call("POST", "/containers/app2/rename?name=app", "", 204, nil)
	d.call("POST", "/containers/app/stop", "", 204, nil)
	d.call("DELETE", "/containers/app", "", 204, nil)
	var rest []string
	for len(rest) == 0 || rest[len(rest)-1] != "destroy" {
		if e := next(); !strings.HasPrefix(e.Action, "exec_") {
			rest = append(rest, e.Action)
			if e.Action == "die" && e.Actor.Attributes["exitCode"] != "4" {
				t.Errorf("die: %v", e.Actor.Attributes)
			}
		}
	}
	if got := slices.DeleteFunc(rest, func(a string) bool { return a == "rename" }); !slices.Equal(got, []string{"kill", "die", "stop", "destroy"}) {
		t.Errorf("the end: %v", got)
	}
	past := d.call("GET", fmt.Sprint("/events?since=0&until=", time.Now().Unix()+1), "", 200, nil) // all that is remembered, and no more
	if !strings.Contains(past, `"Action":"create"`) || !strings.Contains(past, `"Action":"destroy"`) {
		t.Errorf("the past: %s", past)
	}
}

func TestFiltersInBothForms(t *testing.T) {
	d := New(t, "busybox:latest")
	id := d.create("one", `"Cmd":["true"],"Labels":{"a":"b"}`)
	for _, f := range []string{`{"label":["a=b"]}`, `{"label":{"a=b":true}}`, `{"name":["one"],"status":["created"]}`, `{"id":{"` + id[:12] + `":true}}`} {
		var list []struct{ ID string }
		d.call("GET", "/v1.24/containers/json?all=1&filters="+url.QueryEscape(f), "", 200, &list)
		if len(list) != 1 || list[0].ID != id {
			t.Errorf("%s: %v", f, list)
		}
	}
	for _, path := range []string{"/containers/json", "/images/json", "/networks", "/volumes", "/events"} {
		for _, f := range []string{`{"nonsense":["x"]}`, `{"nonsense":{"x":true}}`, `nonsense`} {
			d.call("GET", path+"?filters="+url.QueryEscape(f), "", 400, nil)
		}
	}
	for _, path := range []string{"/containers/prune", "/images/prune", "/networks/prune", "/volumes/prune"} {
		d.call("POST", path+"?filters="+url.QueryEscape(`{"nonsense":["x"]}`), "", 400, nil)
	}
	d.call("GET", "/containers/one/json", "", 200, nil) // a refused prune pruned nothing
}

func TestStatusesOfRepeats(t *testing.T) {
	d := New(t, "busybox:latest")
	d.create("one", `"Cmd":["sleep","1000"]`)
	d.call("POST", "/containers/create?name=one", `{"Image":"busybox"}`, 409, nil)
	d.call("POST", "/containers/create", `{"Image":"nosuch"}`, 404, nil)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/containers/one/stop", 304}, {"POST", "/containers/one/kill", 409}, {"POST", "/containers/one/pause", 409},
		{"POST", "/containers/one/start", 204}, {"POST", "/containers/one/start", 304}, {"POST", "/containers/one/unpause", 409},
		{"DELETE", "/containers/one", 409}, {"POST", "/containers/one/kill?signal=NOPE", 400}, {"POST", "/containers/one/stop?t=0", 204},
		{"POST", "/containers/one/stop", 304}, {"DELETE", "/containers/one", 204}, {"DELETE", "/containers/one", 404},
		{"POST", "/containers/one/start", 404}, {"POST", "/containers/one/stop", 404}, {"GET", "/containers/one/json", 404}, {"GET", "/containers/one/logs?stdout=1", 404},
		{"GET", "/networks/one", 404}, {"DELETE", "/networks/one", 404}, {"GET", "/volumes/one", 404}, {"DELETE", "/volumes/one", 404}, {"DELETE", "/volumes/one?force=1", 204},
		{"GET", "/images/one/json", 404}, {"DELETE", "/images/one", 404}, {"POST", "/images/one/tag?repo=x", 404}, {"GET", "/nothing", 404},
	} {
		d.call(c.method, c.path, "", c.status, nil)
	}
	for range 2 {
		d.call("POST", "/volumes/create", `{"Name":"v"}`, 201, nil)
	}
	d.call("POST", "/networks/create", `{"Name":"n"}`, 201, nil)
	d.call("POST", "/networks/create", `{"Name":"n"}`, 409, nil)
}

// Where Docker answers with an empty list or map, null breaks clients.
func TestNullsOnlyWhereDockerHasThem(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Run("run -d --name app -v v:/v busybox sleep 1000")
	for path, never := range map[string][]string{
		"/containers/app/json":      {"Mounts", "Labels", "Ports", "Networks", "Options", "Devices", "Env", "Cmd", "PortBindings", "Ulimits", "Dns", "DnsSearch", "BlkioWeightDevice", "Args"},
		"/containers/json":          {"Ports", "Labels", "Mounts", "Networks", "Names"},
		"/images/json":              {"RepoTags", "RepoDigests", "Labels"},
		"/images/busybox/json":      {"RepoTags", "RepoDigests", "Layers", "Env", "Cmd"},
		"/networks/bridge":          {"Containers", "Options", "Labels", "Config"},
		"/volumes":                  {"Volumes", "Labels", "Options", "Warnings"},
		"/info":                     {"Labels", "Runtimes", "Warnings", "SecurityOptions", "DriverStatus", "RegistryConfig", "Network", "Volume", "Log"},
		"/system/df":                {"Images", "Containers", "Volumes", "BuildCache"},
		"/containers/app/changes":   {},
		"/containers/app/top":       {"Titles", "Processes"},
		"/images/busybox/history":   {"Tags"},
		"/containers/json?limit=-1": {},
	} {
		text := d.call("GET", path, "", 200, nil)
		if strings.TrimSpace(text) == "null" {
			t.Errorf("%s: null", path)
		}
		for _, key := range never {
			if strings.Contains(text, `"`+key+`":null`) {
				t.Errorf("%s: %s is null", path, key)
			}
		}
	}
	for _, path := range []string{"/containers/prune", "/images/prune", "/networks/prune", "/volumes/prune"} {
		if text := d.call("POST", path, "", 200, nil); strings.Contains(text, "null") {
			t.Errorf("%s: %s", path, text)
		}
	}
}

// Short names are Docker Hub's, and shown short.
func TestShortImageNames(t *testing.T) {
	d := New(t, "busybox:latest")
	for _, name := range []string{"busybox", "busybox:latest", "library/busybox", "docker.io/busybox", "docker.io/library/busybox:latest", "index.docker.io/library/busybox"} {
		var img struct{ RepoTags []string }
		d.call("GET", "/images/"+name+"/json", "", 200, &img)
		if !slices.Equal(img.RepoTags, []string{"busybox:latest"}) {
			t.Errorf("%s: %v", name, img.RepoTags)
		}
	}
	d.Run("create --name app docker.io/library/busybox true")
	d.Args([]string{"inspect", "-f", "{{.Config.Image}} {{.Image}}", "app"}, "busybox sha256:")
	d.Run("tag busybox user/tool:1")
	d.Args([]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, "busybox:latest", "user/tool:1")
	d.Run("tag busybox localhost:5000/tool")
	d.Args([]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, "localhost:5000/tool:latest")
}

func TestStatsHaveTheReadingBefore(t *testing.T) {
	d := New(t, "busybox:latest")
	d.Args([]string{"run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done"})
	type cpu struct {
		CPU struct {
			TotalUsage uint64 `json:"total_usage"`
		} `json:"cpu_usage"`
		System uint64 `json:"system_cpu_usage"`
		Online int    `json:"online_cpus"`
	}
	var st struct {
		Now    cpu `json:"cpu_stats"`
		Before cpu `json:"precpu_stats"`
		Memory struct {
			Usage, Limit uint64
			Stats        map[string]uint64
		} `json:"memory_stats"`
	}
	d.call("GET", "/containers/busy/stats?stream=false", "", 200, &st)
	if st.Before.CPU.TotalUsage == 0 || st.Now.CPU.TotalUsage <= st.Before.CPU.TotalUsage || st.Now.System <= st.Before.System || st.Now.Online == 0 || st.Memory.Limit == 0 || len(st.Memory.Stats) == 0 {
		t.Errorf("stats: %+v", st)
	}
	if text := d.Run("stats --no-stream --format {{.CPUPerc}} busy"); strings.HasPrefix(text, "0.00") {
		t.Errorf("a loop takes %q of a CPU", text)
	}
	resp := d.ask("GET", "/containers/busy/stats", "") // one answer after the other on one connection
	dec := json.NewDecoder(resp.Body)
	for range 2 {
		if err := dec.Decode(&st); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVersionsWithAndWithoutPrefix(t *testing.T) {
	d := New(t, "busybox:latest")
	id := d.create("one", `"Cmd":["true"]`)
	for minor := 24; minor <= 51; minor++ {
		prefix := fmt.Sprint("/v1.", minor)
		for _, path := range []string{"/_ping", "/version", "/info", "/containers/json?all=1", "/containers/" + id + "/json", "/images/json", "/networks", "/volumes", "/system/df"} {
			if text := d.call("GET", prefix+path, "", 200, nil); path != "/_ping" && !json.Valid([]byte(text)) {
				t.Errorf("%s%s: %s", prefix, path, text)
			}
		}
	}
	d.call("GET", "/containers/json", "", 200, nil)
	for _, prefix := range []string{"/v1.23", "/v1.52", "/v2.0", "/v0.1"} {
		if text := d.call("GET", prefix+"/containers/json", "", 400, nil); !strings.Contains(text, "API version") {
			t.Errorf("%s: %s", prefix, text)
		}
	}
	resp := d.ask("HEAD", "/_ping", "")
	if resp.StatusCode != 200 || resp.Header.Get("Api-Version") != "1.51" || resp.Header.Get("Ostype") != "linux" {
		t.Errorf("ping: %s %v", resp.Status, resp.Header)
	}
	for _, v := range []string{"1.24", "1.40", "1.48"} { // the client speaks an older version too
		cmd := d.Command("run", "--rm", "busybox", "echo", v)
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION="+v)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != v+"\n" {
			t.Errorf("docker run with API %s: %v: %s", v, err, out)
		}
	}
}

// Whatever a create request asks for is honoured or refused by name.
func TestNothingOfACreateIsIgnored(t *testing.T) {
	d := New(t, "busybox:latest")
	for fields, want := range map[string]string{
		`"Nonsense":1`:                                                                                "Nonsense",
		`"HostConfig":{"Nonsense":{"a":1}}`:                                                           "HostConfig.Nonsense",
		`"HostConfig":{"Links":["x:y"]}`:                                                              "HostConfig.Links",
		`"HostConfig":{"LogConfig":{"Type":"syslog"}}`:                                                "HostConfig.LogConfig.Type",
		`"HostConfig":{"Isolation":"hyperv"}`:                                                         "Isolation",
		`"HostConfig":{"StorageOpt":{"size":"1G"}}`:                                                   "storage option size",
		`"HostConfig":{"Runtime":"nosuch"}`:                                                           "nosuch",
		`"HostConfig":{"DeviceRequests":[{"Count":-1}]}`:                                              "HostConfig.DeviceRequests",
		`"HostConfig":{"Mounts":[{"Type":"npipe","Target":"/x","Source":"y"}]}`:                       "npipe",
		`"HostConfig":{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"Nonsense":true}}]}`: "VolumeOptions.Nonsense",
		`"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}`:                                         "sometimes",
		`"HostConfig":{"Binds":["/a:/b:bogus"]}`:                                                      "bogus",
		`"HostConfig":{"CapAdd":["NOSUCH"]}`:                                                          "NOSUCH",
		`"HostConfig":{"SecurityOpt":["bogus=1"]}`:                                                    "bogus",
		`"HostConfig":{"Sysctls":{"kernel.panic":"1"}}`:                                               "kernel.panic",
		`"HostConfig":{"Ulimits":[{"Name":"nosuch","Soft":1,"Hard":1}]}`:                              "nosuch",
		`"HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"x":{}}}`:         "none",
		`"Healthcheck":{"Test":["BOGUS"]}`:                                                            "BOGUS",
		`"StopSignal":"SIGNOPE"`:                                                                      "SIGNOPE",
		`"Env":"A=b"`:                                                                                 "Env",
	} {
		text := d.call("POST", "/containers/create", `{"Image":"busybox",`+fields+`}`, 400, nil)
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s does not name %s", fields, text, want)
		}
	}
	if left := d.Run("ps -aq"); left != "" {
		t.Errorf("refused, but created: %s", left)
	}
	// Zero values of fields that newer and older clients know are no wish.
	id := d.create("zeros", `"Cmd":"true","Nonsense":null,"HostConfig":{"KernelMemory":0,"Another":"","List":[],"Map":{}}`)
	var c struct{ Config struct{ Cmd []string } }
	if d.call("GET", "/containers/"+id+"/json", "", 200, &c); !slices.Equal(c.Config.Cmd, []string{"true"}) {
		t.Errorf("a command given as one string: %v", c.Config.Cmd)
	}
	for path, body := range map[string]string{
		"/containers/zeros/update": `{"Nonsense":1}`, "/containers/zeros/exec": `{"Cmd":["true"],"Nonsense":1}`,
		"/networks/create": `{"Name":"n","Nonsense":1}`, "/volumes/create": `{"Name":"v","Nonsense":1}`,
	} {
		d.call("POST", path, body, 400, nil)
	}
}

// What docker compose and the SDKs send: every field, most of them empty.
func TestRequestsOfCompose(t *testing.T) {
	d := New(t, "busybox:latest")
	labels := `{"com.docker.compose.project":"p","com.docker.compose.service":"web","com.docker.compose.container-number":"1","com.docker.compose.oneoff":"False"}`
	d.call("POST", "/v1.47/networks/create", `{"Name":"p_default","CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv4":null,"EnableIPv6":false,
		"IPAM":{"Driver":"","Options":null,"Config":null},"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":null,
		"Labels":{"com.docker.compose.project":"p","com.docker.compose.network":"default"}}`, 201, nil)
	d.call("POST", "/v1.47/volumes/create", `{"Name":"p_data","Driver":"","DriverOpts":null,"Labels":{"com.docker.compose.project":"p"}}`, 201, nil)
	var made struct {
		ID       string
		Warnings []string
	}
	d.call("POST", "/v1.47/containers/create?name=p-web-1&platform=", `{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,
		"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":["A=b"],"Cmd":["sh","-c","echo up; httpd -f -h /data"],
		"Healthcheck":{"Test":["CMD","true"],"Interval":100000000,"Timeout":1000000000,"Retries":3},"Image":"busybox","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":`+labels+`,
		"HostConfig":{"Binds":["p_data:/data:rw"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":null},"NetworkMode":"p_default",
			"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8090"}]},"RestartPolicy":{"Name":"unless-stopped","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,
			"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":null,"DnsOptions":null,"DnsSearch":null,"ExtraHosts":[],"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,
			"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"",
			"CpuShares":0,"Memory":67108864,"NanoCpus":500000000,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":null,"BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,
			"BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":null,"DeviceCgroupRules":null,"DeviceRequests":null,
			"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":null,"OomKillDisable":false,"PidsLimit":null,"Ulimits":null,"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,
			"Mounts":[{"Type":"tmpfs","Target":"/scratch","TmpfsOptions":{"SizeBytes":1048576}}],"MaskedPaths":null,"ReadonlyPaths":null,"Init":true},
		"NetworkingConfig":{"EndpointsConfig":{"p_default":{"IPAMConfig":null,"Links":null,"Aliases":["p-web-1","web"],"MacAddress":"","DriverOpts":null,"NetworkID":"","EndpointID":"","Gateway":"",
			"IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}`, 201, &made)
	if len(made.Warnings) > 0 {
		t.Errorf("warnings: %v", made.Warnings)
	}
	_, stream := d.upgrade("/v1.47/containers/"+made.ID+"/attach?stream=1&stdout=1&stderr=1&logs=0", "")
	d.call("POST", "/v1.47/containers/"+made.ID+"/start", "", 204, nil)
	text := make([]byte, 8+3) // a frame with "up"
	if _, err := io.ReadFull(stream, text); err != nil || string(text[8:]) != "up\n" {
		t.Errorf("attached: %q, %v", text, err)
	}
	filter := url.QueryEscape(`{"label":{"com.docker.compose.project=p":true,"com.docker.compose.oneoff=False":true}}`)
	var list []struct {
		ID              string
		Labels          map[string]string
		State           string
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	d.call("GET", "/v1.47/containers/json?all=1&filters="+filter, "", 200, &list)
	if len(list) != 1 || list[0].ID != made.ID || list[0].State != "running" || list[0].NetworkSettings.Networks["p_default"].IPAddress == "" {
		t.Errorf("list: %+v", list)
	}
	d.Run("run --rm --network p_default busybox ping -c 1 -W 2 web", "1 packets received")
	d.Run("exec p-web-1 df -k /scratch", "1024")
	d.call("POST", "/v1.47/containers/"+made.ID+"/stop?t=1", "", 204, nil)
	d.call("DELETE", "/v1.47/containers/"+made.ID+"?v=1&force=1", "", 204, nil)
	d.call("DELETE", "/v1.47/networks/p_default", "", 204, nil)
	d.call("DELETE", "/v1.47/volumes/p_data", "", 204, nil)
}
