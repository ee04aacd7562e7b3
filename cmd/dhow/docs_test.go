package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the table in docs/cli.md")

// command finds dhow's command lines in prose and snippets: in back quotes, or
// as a line of a block that is indented or fenced.
var command = regexp.MustCompile("`(?:sudo )?(dhow [^`]+)`|(?m)^(?: {4}|\\$ | {4}\\$ |)(?:sudo )?(dhow [a-z-].*)$")

// TestCommandsInTheDocsParse takes every command line of the README and the
// docs to the point where it would be run: command, flags and arguments exist.
func TestCommandsInTheDocsParse(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		prose, _, _ := strings.Cut(string(data), "<!-- commands:") // the table below holds usages
		for _, m := range command.FindAllStringSubmatch(prose, -1) {
			line := m[1] + m[2]
			found++
			if err := parses(line); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), line, err)
			}
		}
	}
	if found < 20 {
		t.Errorf("%d commands found: the pattern does not fit the docs any more", found)
	}
}

func TestCommandsInExamplesOfHelpParse(t *testing.T) {
	a, _, _ := testApp()
	root := newRoot(a)
	for _, c := range append(root.Commands(), root) {
		for _, line := range strings.Split(c.Example, "\n") {
			_, line, ok := strings.Cut(line, "dhow ")
			if !ok {
				continue
			}
			if err := parses("dhow " + line); err != nil {
				t.Errorf("%s --help: dhow %s: %v", c.CommandPath(), line, err)
			}
		}
	}
}

// parses reports what is wrong with a command line, as a shell would split it.
func parses(line string) error {
	line, _, _ = strings.Cut(line, "   ") // what follows explains
	for _, end := range []string{" #", " | ", " > ", " < ", " && ", ";"} {
		line, _, _ = strings.Cut(line, end)
	}
	args := words(strings.TrimSpace(line))[1:]
	for i, arg := range args {
		args[i] = strings.Trim(arg, "[]")
		if arg == "..." || arg == "COMMAND" && i == 0 {
			return nil // a pattern, not a command line
		}
	}
	a, _, _ := testApp()
	root := newRoot(a)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Traverse(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		if strings.HasPrefix(err.Error(), "flag needs an argument") {
			return nil // names the flag as such
		}
		return err
	}
	if cmd.Name() == "help" || cmd.Args == nil || cmd.Parent() != nil && cmd.Parent().Name() == "completion" {
		return nil
	}
	if cmd == root && len(cmd.Flags().Args()) > 0 {
		return onlyCommands(root, cmd.Flags().Args())
	}
	if cmd.HasSubCommands() || len(cmd.Flags().Args()) == 0 {
		return nil // names the command as such
	}
	return cmd.Args(cmd, cmd.Flags().Args())
}

// words splits at blanks outside quotes.
func words(line string) []string {
	var out []string
	var b strings.Builder
	quote := rune(0)
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case quote == 0 && r == ' ':
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
		default:
			b.WriteRune(r)
		}
	}
	return out
}

func TestCommandTable(t *testing.T) {
	const page, mark = "../../docs/cli.md", "-run TestCommandTable -update -->\n"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(data), mark)
	if !ok {
		t.Fatal("docs/cli.md has lost the mark of its table")
	}
	var b strings.Builder
	b.WriteString("\n| command | |\n|---|---|\n")
	a, _, _ := testApp()
	every(newRoot(a), func(c *cobra.Command) {
		if c.Runnable() && !c.HasSubCommands() {
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(strings.TrimSuffix(c.UseLine(), " [flags]"), "|", `\|`), c.Short)
		}
	})
	if *update {
		if err := os.WriteFile(page, []byte(head+mark+b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != b.String() {
		t.Error("docs/cli.md does not list the commands as they are: run go test ./cmd/dhow -run TestCommandTable -update")
	}
}
