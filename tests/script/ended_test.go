package script

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

const never = `
name: never
services:
  app:
    image: busybox
    command: sleep 1000
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "true"], start_period: 1h, interval: 1h}
`

// A command that the end of the daemon cuts off says so, and what to do: after a crash and after an orderly end.
func TestCommandSaysThatTheDaemonEnded(t *testing.T) {
	binaries(t)
	if testing.Short() {
		t.Skip("NOT RUN: needs a daemon")
	}
	host := netlab.New(t).Host()
	host.Load("busybox:latest")
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(never), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(){"crash": host.Kill, "stop": host.Stop} {
		done := make(chan netlab.Result, 1)
		go func() { done <- host.Try("-f", file, "up", "--wait") }()
		waitRunning(t, host.Socket(), "never")
		end()
		r := <-done
		if r.Code != 1 || strings.Contains(r.Stderr, "EOF") || !strings.Contains(r.Stderr, "daemon") || !strings.Contains(r.Stderr, "\n  try: ") {
			t.Errorf("%s: exit code %d, output %q", name, r.Code, r.Stderr)
		}
		host.Start()
	}
	host.Dhow("-p", "never", "down")
}

// waitRunning returns when a task of the stack runs.
func waitRunning(t *testing.T, socket, name string) {
	t.Helper()
	c, err := client.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	runs := errors.New("it runs")
	for err = nil; !errors.Is(err, runs); {
		err = c.WatchStack(context.Background(), name, func(st api.StackStatus) error {
			for _, task := range st.Tasks {
				if task.Status.State == stack.TaskRunning {
					return runs
				}
			}
			return nil
		})
		if err != nil && !client.IsNotFound(err) && !errors.Is(err, runs) {
			t.Fatal(err)
		}
	}
}
