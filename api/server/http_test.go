package server

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func (w *world) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.socket)
	}}}
}

func (w *world) get(t *testing.T, path string, status int, out any) string {
	t.Helper()
	return w.do(t, http.MethodGet, path, "", status, out)
}

func (w *world) post(t *testing.T, path, body string, status int, out any) string {
	t.Helper()
	return w.do(t, http.MethodPost, path, body, status, out)
}

// do sends a request, wants its status and decodes the answer; an error must
// have a message and nothing else.
func (w *world) do(t *testing.T, method, path, body string, status int, out any) string {
	t.Helper()
	req, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, status, data)
	}
	if status >= 400 {
		var e map[string]string
		if json.Unmarshal(data, &e) != nil || e["message"] == "" || len(e) != 1 {
			t.Errorf("%s %s: error body %s", method, path, data)
		}
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, data)
		}
	}
	return string(data)
}

func TestPing(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.51/_ping"} {
			req, _ := http.NewRequest(method, "http://d"+path, nil)
			resp, err := w.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			want := map[string]string{http.MethodGet: "OK", http.MethodHead: ""}[method]
			if resp.StatusCode != 200 || string(body) != want {
				t.Errorf("%s %s: %s %q", method, path, resp.Status, body)
			}
			for key, value := range map[string]string{"Api-Version": "1.51", "Docker-Experimental": "false", "Ostype": "linux",
				"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Swarm": "inactive"} {
				if got := resp.Header.Get(key); got != value {
					t.Errorf("%s %s: %s is %q", method, path, key, got)
				}
			}
		}
	}
}

func TestVersionsAndPaths(t *testing.T) {
	w := newWorld(t)
	for path, status := range map[string]int{
		"/version": 200, "/v1.24/version": 200, "/v1.51/version": 200, "/v1.23/version": 400, "/v1.52/version": 400, "/v2.0/version": 400,
		"/vx/version": 404, "/nothing": 404, "/v1.40/nothing": 404, "/containers/none/json": 404, "/images/none/json": 404,
		"/networks/nosuch": 404, "/volumes/none": 404, "/exec/none/json": 404, "/dhow/v1/stacks/none": 404,
		"/containers/none/nothing": 404, "/images/none/nothing": 404, "/swarm": 501, "/services": 200, "/tasks": 200, "/nodes": 501, "/services/none": 404, "/secrets": 200, "/configs/none": 404,
		"/distribution/busybox/json": 501, "/images/search?term=x": 501,
	} {
		w.get(t, path, status, nil)
	}
	for path, status := range map[string]int{"/build": 501, "/commit": 501, "/swarm/init": 501, "/images/busybox/push": 501, "/version": 404,
		"/networks/create": 400, "/containers/create": 400} {
		w.post(t, path, "", status, nil)
	}
}

func TestStatuses(t *testing.T) {
	w := newWorld(t)
	w.post(t, "/containers/create?name=a", `{"Image":"busybox","Cmd":["sleep"]}`, 201, nil)
	if msg := w.post(t, "/containers/create", `{"Image":"nope"}`, 404, nil); !strings.Contains(msg, "No such image: nope:latest") {
		t.Error(msg)
	}
	w.post(t, "/containers/create?name=a", `{"Image":"busybox"}`, 409, nil)
	for _, step := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/containers/a/stop", 304}, {"POST", "/containers/a/kill", 409}, {"POST", "/containers/a/start", 204},
		{"POST", "/containers/a/start", 304}, {"DELETE", "/containers/a", 409}, {"POST", "/containers/a/pause", 204},
		{"POST", "/containers/a/pause", 409}, {"POST", "/containers/a/attach?stream=1&stdout=1", 409}, {"POST", "/containers/a/unpause", 204},
		{"POST", "/containers/a/resize?h=1&w=x", 400}, {"POST", "/containers/a/resize?h=1&w=2", 200}, {"POST", "/containers/a/stop?t=x", 400},
		{"GET", "/containers/a/logs", 400}, {"GET", "/containers/a/logs?stdout=1&since=x", 400}, {"GET", "/containers/a/logs?stdout=1", 200},
		{"POST", "/containers/a/rename?name=", 400}, {"POST", "/containers/a/stop?t=-1", 204}, {"DELETE", "/containers/a", 204}, {"DELETE", "/containers/a", 404},
		{"DELETE", "/volumes/none", 404}, {"DELETE", "/volumes/none?force=1", 204}, {"DELETE", "/networks/host", 403}, {"DELETE", "/networks/none-such", 404},
		{"GET", "/containers/none/archive?path=/x", 404}, {"HEAD", "/containers/none/archive?path=/x", 404}, {"GET", "/containers/none/archive", 400},
		{"GET", "/containers/json?filters={%22bad%22:[%22x%22]}", 400}, {"GET", "/images/json?filters={%22bad%22:{%22x%22:true}}", 400},
		{"GET", "/containers/json?filters=nonsense", 400}, {"GET", "/containers/json?filters={%22status%22:[%22x%22]}", 400},
		{"GET", "/containers/json?filters={%22status%22:[%22exited%22]}&limit=2", 200}, {"GET", "/containers/json?filters={%22status%22:{%22exited%22:true}}", 200},
		{"GET", "/networks?filters={%22bad%22:[]}", 400}, {"GET", "/volumes?filters={%22bad%22:[]}", 400}, {"GET", "/events?filters={%22bad%22:[]}", 400},
		{"GET", "/system/df?type=x", 400}, {"GET", "/containers/json?limit=x", 400}, {"POST", "/images/create?fromImage=x", 400},
		{"POST", "/images/create?fromSrc=-", 501}, {"POST", "/images/create?fromImage=missing&tag=1", 404},
	} {
		req, _ := http.NewRequest(step.method, "http://d/v1.44"+step.path, nil)
		resp, err := w.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != step.status {
			t.Errorf("%s %s: %s, want %d: %s", step.method, step.path, resp.Status, step.status, body)
		}
		if (step.status == 304 || step.status == 204) && len(body) > 0 {
			t.Errorf("%s %s: body %q", step.method, step.path, body)
		}
	}
}

func TestCreatingAnExistingVolumeIs201(t *testing.T) {
	w := newWorld(t)
	w.post(t, "/volumes/create", `{"Name":"v"}`, 201, nil)
	w.post(t, "/volumes/create", `{"Name":"v"}`, 201, nil)
	w.post(t, "/volumes/create", `{"Name":"v","DriverOpts":{"type":"tmpfs"}}`, 409, nil)
	w.post(t, "/volumes/create", `{"Name":"v","Extra":1}`, 400, nil)
}

// TestNoNulls: where Docker has {} or [], clients in other languages fail on null.
func TestNoNulls(t *testing.T) {
	w := newWorld(t)
	w.post(t, "/containers/create?name=a", `{"Image":"busybox","Cmd":["sleep"]}`, 201, nil)
	w.post(t, "/volumes/create", `{"Name":"v"}`, 201, nil)
	// As Docker 28 has them, with nothing set.
	allowed := map[string]bool{
		".Config.Volumes": true, ".Config.Entrypoint": true, ".Config.OnBuild": true, ".Config.Cmd": true, ".ExecIDs": true,
		".HostConfig.Binds": true, ".HostConfig.VolumesFrom": true, ".HostConfig.CapAdd": true, ".HostConfig.CapDrop": true,
		".HostConfig.ExtraHosts": true, ".HostConfig.GroupAdd": true, ".HostConfig.Links": true, ".HostConfig.SecurityOpt": true,
		".HostConfig.DeviceCgroupRules": true, ".HostConfig.DeviceRequests": true, ".HostConfig.MemorySwappiness": true,
		".HostConfig.PidsLimit": true, ".HostConfig.MaskedPaths": true, ".HostConfig.ReadonlyPaths": true,
		".NetworkSettings.SecondaryIPAddresses": true, ".NetworkSettings.SecondaryIPv6Addresses": true,
		".NetworkSettings.Networks.bridge.IPAMConfig": true, ".NetworkSettings.Networks.bridge.Links": true,
		".NetworkSettings.Networks.bridge.Aliases": true, ".NetworkSettings.Networks.bridge.DriverOpts": true,
		".NetworkSettings.Networks.bridge.DNSNames":     true,
		"[].NetworkSettings.Networks.bridge.IPAMConfig": true, "[].NetworkSettings.Networks.bridge.Links": true,
		"[].NetworkSettings.Networks.bridge.Aliases": true, "[].NetworkSettings.Networks.bridge.DriverOpts": true,
		"[].NetworkSettings.Networks.bridge.DNSNames": true,
		"[].Tags": true, // of images below the top
		".Containers[].NetworkSettings.Networks.bridge.IPAMConfig": true, ".Containers[].NetworkSettings.Networks.bridge.Links": true,
		".Containers[].NetworkSettings.Networks.bridge.Aliases": true, ".Containers[].NetworkSettings.Networks.bridge.DriverOpts": true,
		".Containers[].NetworkSettings.Networks.bridge.DNSNames": true,
	}
	for _, path := range []string{"/containers/json?all=1", "/containers/a/json", "/images/json", "/images/busybox/json", "/images/busybox/history",
		"/networks", "/networks/bridge", "/networks/host", "/volumes", "/volumes/v", "/info", "/version", "/system/df", "/plugins", "/dhow/v1/stacks", "/dhow/v1/system"} {
		var v any
		w.get(t, path, 200, &v)
		walkNulls("", v, func(at string) {
			if !allowed[at] && !strings.HasSuffix(path, "/busybox/json") {
				t.Errorf("%s: %s is null", path, at)
			}
		})
	}
}

func walkNulls(at string, v any, report func(string)) {
	switch x := v.(type) {
	case nil:
		report(at)
	case map[string]any:
		for k, child := range x {
			walkNulls(at+"."+k, child, report)
		}
	case []any:
		for _, child := range x {
			walkNulls(at+"[]", child, report)
		}
	}
}
