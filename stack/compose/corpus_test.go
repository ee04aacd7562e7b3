package compose

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCorpus loads files in the style of what people run at home and at work.
// They load as they are, without a warning; a line "# refused: TEXT" says
// which refusal is right instead, and all of them are asked for.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	dir := realDir(t)
	writeFiles(t, dir, map[string]string{"paperless.env": "A=1\n", "mastodon.env": "export LOCAL_DOMAIN=example.com\nQUOTED=\"a b\"\n"})
	env := []string{"DB_PASSWORD=x", "UPLOAD_LOCATION=./library", "DB_DATA_LOCATION=./postgres", "GITLAB_HOME=/srv/gitlab"}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			writeFiles(t, dir, map[string]string{name: string(data)})
			p, err := Load(context.Background(), Options{WorkingDir: dir, Files: []string{name}, Env: env, ProjectName: "corpus"})
			var want []string
			for line := range strings.Lines(string(data)) {
				if text, ok := strings.CutPrefix(strings.TrimSpace(line), "# refused: "); ok {
					want = append(want, text)
				}
			}
			if err == nil && len(want) == 0 {
				for _, w := range p.Warnings {
					t.Errorf("warns: %s", w)
				}
				return
			}
			if err == nil || len(strings.Split(err.Error(), "\n")) != len(want) {
				t.Fatalf("got %v, want the refusals %q", err, want)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %q", err, w)
				}
			}
		})
	}
}
