package dockercli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// socket connects to the daemon.
func (d *Docker) socket() *net.UnixConn {
	d.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(d.Socket(), "unix://"))
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.UnixConn)
}

// ask sends a request as an SDK would and returns the answer with its body open.
func (d *Docker) ask(method, path, body string) *http.Response {
	d.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(d.Socket(), "unix://"))
	}}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	d.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// call is ask for a whole answer, which must have this status; out gets its JSON.
func (d *Docker) call(method, path, body string, status int, out any) string {
	d.Helper()
	resp := d.ask(method, path, body)
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode != status {
		d.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, status, data)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			d.Fatalf("%s %s: %v in %s", method, path, err, data)
		}
	}
	return string(data)
}

// create makes a container from the fields of a request and returns its ID.
func (d *Docker) create(name, fields string) string {
	d.Helper()
	var made struct{ ID string }
	d.call("POST", "/containers/create?name="+name, `{"Image":"busybox",`+fields+`}`, 201, &made)
	return made.ID
}

// upgrade asks for a stream and returns it after the answer's head.
func (d *Docker) upgrade(path, body string) (*net.UnixConn, *bufio.Reader) {
	d.Helper()
	conn := d.socket()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		d.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(resp.Body)
		d.Fatalf("POST %s: %s: %s", path, resp.Status, text)
	}
	return conn, br
}
