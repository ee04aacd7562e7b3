package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func testApp() (*app, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return &app{in: strings.NewReader(""), out: &out, err: &err}, &out, &err
}

func every(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		every(sub, f)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	a, _, _ := testApp()
	every(newRoot(a), func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: Short %q, Example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if !strings.HasPrefix(line, "  ") || len(line) > 100 {
				t.Errorf("%s: example line %q: want two spaces of indent and at most 100 columns", c.CommandPath(), line)
			}
		}
	})
}

func TestHelpFitsHundredColumns(t *testing.T) {
	a, out, _ := testApp()
	every(newRoot(a), func(c *cobra.Command) {
		out.Reset()
		c.SetOut(out)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if len([]rune(line)) > helpWidth {
				t.Errorf("%s --help: %d columns: %s", c.CommandPath(), len([]rune(line)), line)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	have := []string{"volume", "version", "port", "ps", "up", "logs"}
	for word, want := range map[string]string{"vol": "volume", "prot": "port", "v": "", "lgos": "logs", "upp": "up", "frobnicate": "", "": ""} {
		if got := nearest(word, have); got != want {
			t.Errorf("nearest to %q: got %q, want %q", word, got, want)
		}
	}
}

func TestGlobalFlagsStandBeforeAndBehind(t *testing.T) {
	for _, args := range [][]string{
		{"-f", "x.yaml", "-p", "shop", "config", "-q"},
		{"config", "-f", "x.yaml", "--project-name", "shop", "-q"},
		{"logs", "--file", "x.yaml", "-f", "-p", "shop"},
	} {
		a, _, _ := testApp()
		root := newRoot(a)
		cmd, rest, err := root.Traverse(args)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if len(a.files) != 1 || a.files[0] != "x.yaml" || a.project != "shop" {
			t.Errorf("%v: files %v, project %q", args, a.files, a.project)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"nonsense"}, 2, "nonsense"},
		{[]string{"volum", "ls"}, 2, "try: dhow volume"},
		{[]string{"port", "web"}, 2, "too few arguments"},
		{[]string{"ps", "--nonsense"}, 2, "try: dhow ps --help"},
		{[]string{"up", "--build", "--host", "unix:///nowhere"}, 2, "does not build images yet"},
		{[]string{"volume", "ls", "--host", "unix:///nowhere/dhow.sock"}, 1, "dhow daemon"},
		{[]string{"volume", "backup", "v"}, 2, "--to"},
	} {
		a, _, stderr := testApp()
		if code := run(context.Background(), a, tc.args); code != tc.code || !strings.Contains(stderr.String(), tc.err) {
			t.Errorf("%v: exit code %d, want %d; said %q, want %q", tc.args, code, tc.code, stderr.String(), tc.err)
		}
	}
}
