package script

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dhow-project/dhow/tests/netlab"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

func TestWithoutDaemon(t *testing.T) {
	bin := binaries(t)
	testscript.Run(t, params("testdata", bin, "unix:///nowhere/dhow.sock"))
}

func TestWithDaemon(t *testing.T) {
	bin := binaries(t)
	if testing.Short() {
		t.Skip("NOT RUN: needs a daemon")
	}
	scripts, err := filepath.Glob("testdata/daemon/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts { // each with a daemon of its own: they list and prune all there is
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			host := netlab.New(t).Host()
			host.Load("busybox:latest")
			p := params("", bin, "unix://"+filepath.Join(host.RunDir, "dhow.sock"))
			p.Files = []string{script}
			testscript.Run(t, p)
		})
	}
}

// binaries is where the programs are: DHOW_BIN, or bin of the tree.
func binaries(t *testing.T) string {
	dir := os.Getenv("DHOW_BIN")
	if dir == "" {
		dir = filepath.Join(netlab.Root(), "bin")
	}
	if _, err := os.Stat(filepath.Join(dir, "dhow")); err != nil {
		t.Skip("NOT RUN: needs bin/dhow (make build)")
	}
	return dir
}

func params(dir, bin, host string) testscript.Params {
	return testscript.Params{
		Dir: dir, UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("DHOW_HOST", host)
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "masked": masked},
	}
}

// exits runs a command and compares its exit code: `exits 2 dhow ps --nonsense`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// masks replace what differs from run to run.
var masks = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "<id>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<id>"},
	{regexp.MustCompile(`\b(Up|Exited \(\d+\)) (Less than a second|About a minute|\d+ \w+)( ago)?`), "$1 <time>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?`), "<time>"},
	{regexp.MustCompile(` {2,}`), "  "}, // columns are as wide as what was replaced
}

// masked compares standard output, or with -stderr that, to a file after the masks: `masked want.txt`.
func masked(ts *testscript.TestScript, neg bool, args []string) {
	stream := "stdout"
	if len(args) == 2 && args[0] == "-stderr" {
		stream, args = "stderr", args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: masked [-stderr] FILE")
	}
	got := ts.ReadFile(stream)
	for _, m := range masks {
		got = m.find.ReplaceAllString(got, m.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs("masked.out"), []byte(got), 0o644))
	if want := ts.ReadFile(args[0]); got != want {
		ts.Fatalf("%s differs from %s; got:\n%s\nwant:\n%s", stream, args[0], indent(got), indent(want))
	}
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }
