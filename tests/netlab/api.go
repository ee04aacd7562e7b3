package netlab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// API sends a request of Docker's API, such as GET /containers/NAME/json, to
// the daemon and decodes the answer into out unless that is nil. A line-wise
// answer is given to a *[]byte as it is. It needs no client on the machine.
func (h *Host) API(method, path string, out any) {
	h.t.Helper()
	if err := h.api(method, path, out); err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (h *Host) api(method, path string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	socket := filepath.Join(h.RunDir, "dhow.sock")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://dhow"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = body
		return nil
	}
	return json.Unmarshal(body, out)
}
