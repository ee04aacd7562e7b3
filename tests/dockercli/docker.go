package dockercli

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// Docker is the command line of one host.
type Docker struct {
	*testing.T
	*netlab.Host
}

// New starts a host with these images; it skips loudly where docker is missing.
func New(t *testing.T, images ...string) *Docker {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: real containers are not short")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("NOT RUN: no docker command line on this machine: compatibility with it is not tested")
	}
	d := &Docker{T: t, Host: netlab.New(t).Host()}
	d.Load(images...)
	return d
}

// Run runs docker with the words of line, which must succeed and print all of want.
func (d *Docker) Run(line string, want ...string) string {
	d.Helper()
	return d.Args(strings.Fields(line), want...)
}

// Args is Run with arguments that have spaces.
func (d *Docker) Args(args []string, want ...string) string {
	d.Helper()
	r := d.Docker(args...)
	if r.Code != 0 {
		d.Fatal(r.Err())
	}
	d.has(r, want)
	return r.Stdout
}

// Fails runs docker, which must end with this exit code and say all of want.
func (d *Docker) Fails(code int, line string, want ...string) {
	d.Helper()
	r := d.Docker(strings.Fields(line)...)
	if r.Code != code {
		d.Errorf("docker %s: exit code %d, want %d: %s%s", line, r.Code, code, r.Stdout, r.Stderr)
	}
	d.has(r, want)
}

func (d *Docker) has(r netlab.Result, want []string) {
	d.Helper()
	for _, w := range want {
		if !strings.Contains(r.Stdout+r.Stderr, w) {
			d.Errorf("%s: %q is not in:\n%s%s", strings.Join(r.Args, " "), w, r.Stdout, r.Stderr)
		}
	}
}

// Command is docker for tests that hold its streams.
func (d *Docker) Command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	d.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Socket(), "TERM=xterm")
	return cmd
}
