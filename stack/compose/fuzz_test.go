package compose

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad feeds any bytes as a file: no panic, bounded time, and either a
// stack that is valid or errors that have a message.
func FuzzLoad(f *testing.F) {
	cases, _ := filepath.Glob("testdata/load/*.txtar")
	for _, file := range cases {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range ar.Files {
			if filepath.Ext(part.Name) == ".yaml" {
				f.Add(part.Data)
			}
		}
	}
	for _, s := range serviceSamples {
		f.Add([]byte(fileWith("services", s.with)))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		p, err := Load(context.Background(), Options{Files: []string{"-"}, Stdin: data, WorkingDir: dir, ProjectName: "p", Env: []string{"SET=1"}})
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %s", took)
		}
		var all Errors
		var one *Error
		switch {
		case err == nil:
			if invalid := p.Stack.Validate(); invalid != nil {
				t.Fatalf("loaded, but: %v", invalid)
			}
			if _, err := p.JSON(); err != nil {
				t.Fatalf("cannot be printed: %v", err)
			}
		case errors.As(err, &all) && len(all) > 0 && all[0].Msg != "":
		case errors.As(err, &one) && one.Msg != "":
		default:
			t.Fatalf("an error without a word: %#v", err)
		}
	})
}

// TestBombs: a few lines that expand without end are refused, quickly.
func TestBombs(t *testing.T) {
	bomb := "x-a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		c, n := string(rune('a'+i)), string(rune('b'+i))
		bomb += "x-" + n + ": &" + n + " [*" + c + ", *" + c + ", *" + c + ", *" + c + ", *" + c + ", *" + c + ", *" + c + ", *" + c + "]\n"
	}
	for name, text := range map[string]string{
		"aliases":     bomb + "services: {a: {image: x}}\n",
		"self":        "x-a: &a {b: *a}\nservices: {a: {image: x}}\n",
		"merge self":  "services:\n  a: &a\n    <<: *a\n    image: x\n",
		"deep":        "services: " + repeat("[", 20000) + "\n",
		"extends":     "services:\n  a: {image: x, extends: {service: b}}\n  b: {image: x, extends: {service: a}}\n",
		"include":     "include: [self.yaml]\nservices: {a: {image: x}}\n",
		"port ranges": "services: {a: {image: x, ports: ['1-65535:1-65535', '1-65535:1-65535/udp']}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t)
			if err := os.WriteFile(filepath.Join(dir, "self.yaml"), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err := Load(context.Background(), Options{Files: []string{"self.yaml"}, WorkingDir: dir})
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil {
				t.Error("loaded")
			}
			if err != nil {
				t.Logf("%.300s", err)
			}
		})
	}
}

func repeat(s string, n int) string {
	out := make([]byte, 0, n*len(s))
	for range n {
		out = append(out, s...)
	}
	return string(out)
}
