package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// api speaks to a socket with Docker's API as a program would, without the
// start of a client program in the measurement.
type api struct {
	b    *testing.B
	http *http.Client
}

func newAPI(b *testing.B, socket string) api {
	return api{b, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// call uses the version that the oldest Docker in use speaks.
func (a api) call(method, path string, body any, out any) {
	a.b.Helper()
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			a.b.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, "http://bench/v1.41"+path, r)
	if err != nil {
		a.b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		a.b.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 400 {
		a.b.Fatalf("%s %s: %s: %v: %s", method, path, res.Status, err, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			a.b.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
}

type idAnswer struct {
	ID string `json:"Id"`
}

func (a api) create(cmd ...string) string {
	a.b.Helper()
	var ans idAnswer
	a.call("POST", "/containers/create", map[string]any{"Image": "busybox:latest", "Cmd": cmd}, &ans)
	return ans.ID
}

func (a api) start(id string) { a.call("POST", "/containers/"+id+"/start", nil, nil) }

func (a api) remove(id string) { a.call("DELETE", "/containers/"+id+"?force=1&v=1", nil, nil) }

// createStart is from nothing until the process runs. The removal is not measured.
func (a api) createStart() time.Duration {
	var id string
	defer func() { a.remove(id) }()
	return timed(func() {
		id = a.create("sleep", "100000")
		a.start(id)
	})
}

// runTrue is from nothing until the process has ended. The removal is not measured.
func (a api) runTrue() time.Duration {
	var id string
	defer func() { a.remove(id) }()
	return timed(func() {
		id = a.create("/bin/true")
		a.start(id)
		a.call("POST", "/containers/"+id+"/wait?condition=not-running", nil, nil)
	})
}

// sleeper runs until the benchmark ends.
func (a api) sleeper() string {
	id := a.create("sleep", "100000")
	a.b.Cleanup(func() { a.remove(id) })
	a.start(id)
	return id
}

// execTrue is create and start of an exec whose streams are read to their end.
func (a api) execTrue(id string) time.Duration {
	return timed(func() {
		var ans idAnswer
		a.call("POST", "/containers/"+id+"/exec", map[string]any{"Cmd": []string{"/bin/true"}, "AttachStdout": true}, &ans)
		a.call("POST", "/exec/"+ans.ID+"/start", map[string]any{"Detach": false}, nil)
	})
}
