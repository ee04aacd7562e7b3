package dockercli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/tests/netlab"
)

// Every example of docs/api.md runs, in the order of the page, on its own machine.
func TestExamplesOfTheGuide(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("NOT RUN: no curl on this machine: the examples of docs/api.md are not tested")
	}
	d := New(t, "busybox:latest")
	page, err := os.ReadFile(filepath.Join(netlab.Root(), "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	backup := t.TempDir()
	parts := strings.Split(string(page), "```sh\n")[1:]
	if len(parts) < 10 {
		t.Fatalf("%d examples on the page", len(parts))
	}
	for _, part := range parts {
		script, _, _ := strings.Cut(part, "```")
		socket := strings.TrimPrefix(d.Socket(), "unix://")
		here := strings.NewReplacer("/run/dhow/dhow.sock", socket, "/srv/", backup+"/", "curl ", "curl --silent --show-error --max-time 30 ").Replace(script)
		if r := d.Exec("sh", "-ec", here); r.Code != 0 {
			t.Errorf("%s\nexit code %d: %s%s", script, r.Code, r.Stdout, r.Stderr)
		}
	}
	if r := d.Docker("volume", "inspect", "copy", "another"); r.Code != 0 {
		t.Error(r.Err()) // what the last examples made
	}
}
