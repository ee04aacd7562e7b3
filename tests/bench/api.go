package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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

// call fails the benchmark when the request fails.
func (a api) call(method, path string, body any, out any) {
	a.b.Helper()
	if err := a.try(context.Background(), method, path, body, out); err != nil {
		a.b.Fatal(err)
	}
}

// try uses the version that the oldest Docker in use speaks.
func (a api) try(ctx context.Context, method, path string, body any, out any) error {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://bench/v1.41"+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 400 {
		err = errors.New(strings.TrimSpace(string(data)))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, res.Status, err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return fmt.Errorf("%s %s: %w: %s", method, path, err, data)
		}
	}
	return nil
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
