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
type api struct{ http *http.Client }

func newAPI(socket string) api {
	return api{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

func (a api) call(b *testing.B, method, path string, body any, out any) {
	b.Helper()
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(b.Context(), method, "http://dhow/v1.51"+path, r)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 400 {
		b.Fatalf("%s %s: %s: %v: %s", method, path, res.Status, err, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			b.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
}

type idAnswer struct {
	ID string `json:"Id"`
}

func (a api) create(b *testing.B, cmd ...string) string {
	var ans idAnswer
	a.call(b, "POST", "/containers/create", map[string]any{"Image": "busybox:latest", "Cmd": cmd}, &ans)
	return ans.ID
}

func (a api) remove(b *testing.B, id string) {
	a.call(b, "DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
}

// runTrue is create, start and wait; the removal is not measured.
func (a api) runTrue(b *testing.B) time.Duration {
	var id string
	d := timed(func() {
		id = a.create(b, "/bin/true")
		a.call(b, "POST", "/containers/"+id+"/start", nil, nil)
		a.call(b, "POST", "/containers/"+id+"/wait?condition=not-running", nil, nil)
	})
	a.remove(b, id)
	return d
}

func (a api) sleeper(b *testing.B) string {
	id := a.create(b, "sleep", "100000")
	a.call(b, "POST", "/containers/"+id+"/start", nil, nil)
	return id
}

// execTrue is create and start of an exec whose streams are read to their end.
func (a api) execTrue(b *testing.B, id string) time.Duration {
	return timed(func() {
		var ans idAnswer
		a.call(b, "POST", "/containers/"+id+"/exec", map[string]any{"Cmd": []string{"/bin/true"}, "AttachStdout": true}, &ans)
		a.call(b, "POST", "/exec/"+ans.ID+"/start", map[string]any{"Detach": false}, nil)
	})
}
