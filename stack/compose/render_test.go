package compose

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const dollars = `
name: money
services:
  db:
    image: busybox
    command: ["sh", "-c", "echo $$HOME $$$$ ${SECRET}"]
    environment: {PASS: "${SECRET}", LITERAL: "$$5"}
    healthcheck: {test: "test -n \"$$VAR\" && echo '$$'"}
    labels: {"price$x": "$${not}", plain: none}
configs:
  page: {content: "cost: $$5 ${SECRET}"}
`

// What config prints loads as the same stack, also where $ is meant literally.
func TestPrintedFileLoadsAsTheSameStack(t *testing.T) {
	dir := realDir(t)
	for name, text := range map[string]string{"compose.yaml": dollars, ".env": "SECRET='p$ss w#rd'\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	p, err := Load(ctx, Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Stack.Services["db"].Container.Env; !strings.Contains(strings.Join(got, "\n"), "PASS=p$ss w#rd") {
		t.Fatalf("environment %q: the secret is not what .env says", got)
	}
	for name, render := range map[string]func() ([]byte, error){"yaml": p.YAML, "json": p.JSON} {
		t.Run(name, func(t *testing.T) {
			text, err := render()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Load(ctx, Options{WorkingDir: dir, Files: []string{"-"}, Stdin: text})
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			p.Stack.Files, again.Stack.Files = nil, nil
			want, _ := json.MarshalIndent(p.Stack, "", " ")
			got, _ := json.MarshalIndent(again.Stack, "", " ")
			if string(got) != string(want) {
				t.Errorf("got %s\nwant %s\nfrom\n%s", got, want, text)
			}
		})
	}
}

func TestPrintedFileKeepsVariablesThatWereNotReplaced(t *testing.T) {
	p, err := Load(context.Background(), Options{WorkingDir: realDir(t), ProjectName: "raw", Files: []string{"-"}, NoInterpolate: true,
		Stdin: []byte("services: {a: {image: \"busybox:${TAG}\", command: \"echo $$HOME\"}}\n")})
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "busybox:${TAG}\n") || strings.Contains(string(text), "$$$") {
		t.Errorf("got\n%s", text)
	}
}
