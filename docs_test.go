package dhow_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack/compose"
)

// pages are the texts for users.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	adrs, err := filepath.Glob("docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range append(append(files, adrs...), "README.md", "CONTRIBUTING.md", "CHANGELOG.md") {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(data)
	}
	return out
}

var link = regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for file, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
			}
		}
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestSnippetsLoad loads every Compose file that the docs show. (Their command
// lines are parsed by the tests of cmd/dhow.)
func TestSnippetsLoad(t *testing.T) {
	found := 0
	for file, text := range pages(t) {
		for _, m := range yamlBlock.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "services:") {
				continue
			}
			found++
			if _, err := compose.Load(context.Background(), compose.Options{
				WorkingDir: t.TempDir(), Files: []string{"-"}, Stdin: []byte(m[1]), ProjectName: "snippet",
			}); err != nil {
				t.Errorf("%s: %v\n%s", file, err, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("the README shows no Compose file any more")
	}
}

func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("examples/*/compose.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, f := range files {
		p, err := compose.Load(context.Background(), compose.Options{WorkingDir: filepath.Dir(f)})
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		for _, w := range p.Warnings {
			t.Errorf("%s: warns: %s", f, w)
		}
	}
}
