package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
)

// daemonThat serves requests on a socket until the test ends.
func daemonThat(t *testing.T, serve http.HandlerFunc) *client.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dhow.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: serve}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	c, err := client.Dial("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const oneState = `{"stack":{"name":"shop"}}` + "\n"

func TestDaemonThatEndsInTheMiddleIsAnErrorOfItsOwn(t *testing.T) {
	for name, part := range map[string]string{"before the answer": "", "after a state": oneState, "within a state": oneState[:9]} {
		t.Run(name, func(t *testing.T) {
			c := daemonThat(t, func(w http.ResponseWriter, _ *http.Request) {
				if part != "" {
					_, _ = w.Write([]byte(part))
					_ = http.NewResponseController(w).Flush()
				}
				panic(http.ErrAbortHandler) // the connection is cut, as by the end of the process
			})
			var cut *client.Cut
			err := c.WatchStack(context.Background(), "shop", func(api.StackStatus) error { return nil })
			if !errors.As(err, &cut) {
				t.Errorf("watch: %v, want a *client.Cut", err)
			}
			if _, err := c.Stack(context.Background(), "shop"); part != oneState && !errors.As(err, &cut) {
				t.Errorf("stack: %v, want a *client.Cut", err)
			}
		})
	}
}

// A daemon that is told to end closes its streams in good order: that the
// stack is gone must not be taken from it.
func TestWatchTellsTheEndOfTheDaemonFromTheEndOfTheStack(t *testing.T) {
	for status, gone := range map[int]bool{http.StatusOK: false, http.StatusNotFound: true} {
		c := daemonThat(t, func(w http.ResponseWriter, r *http.Request) {
			if filepath.Base(r.URL.Path) != "watch" {
				w.WriteHeader(status)
			}
			_, _ = w.Write([]byte(oneState))
		})
		seen := 0
		err := c.WatchStack(context.Background(), "shop", func(api.StackStatus) error { seen++; return nil })
		var cut *client.Cut
		if seen != 1 || gone && err != nil || !gone && !errors.As(err, &cut) {
			t.Errorf("status %d: %d states, error %v", status, seen, err)
		}
	}
}
