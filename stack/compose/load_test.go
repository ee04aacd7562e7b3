package compose

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestLoad runs the cases of testdata/load. Each is an archive of files; its
// comment holds options, one a line ("env A=b", "file a.yaml", "profile p",
// "service web", "name shop", "dir sub", "projectdir sub", "envfile f"), and
// its last file, want, is the stack as JSON or the errors.
func TestLoad(t *testing.T) {
	cases, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(realDir(t), "proj")
			want := unpack(t, ar, dir)
			got := outcome(t, parseOptions(t, string(ar.Comment), dir), dir)
			if got == want {
				return
			}
			if !*update {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			setWant(ar, got)
			if err := os.WriteFile(file, txtar.Format(ar), 0o666); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// realDir is a temporary directory without symbolic links in its path.
func realDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// unpack writes the files of a case and returns its want section.
func unpack(t testing.TB, ar *txtar.Archive, dir string) (want string) {
	t.Helper()
	for _, f := range ar.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func setWant(ar *txtar.Archive, got string) {
	for i := range ar.Files {
		if ar.Files[i].Name == "want" {
			ar.Files[i].Data = []byte(got)
			return
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: "want", Data: []byte(got)})
}

func parseOptions(t testing.TB, text, dir string) Options {
	t.Helper()
	opt := Options{WorkingDir: dir}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "", "#":
		case "env":
			opt.Env = append(opt.Env, rest)
		case "file":
			opt.Files = append(opt.Files, rest)
		case "profile":
			opt.Profiles = append(opt.Profiles, rest)
		case "service":
			opt.Services = append(opt.Services, rest)
		case "envfile":
			opt.EnvFiles = append(opt.EnvFiles, rest)
		case "name":
			opt.ProjectName = rest
		case "dir":
			opt.WorkingDir = filepath.Join(dir, rest)
		case "projectdir":
			opt.ProjectDir = rest
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
	return opt
}

// outcome is what a load gives, as text without the temporary directory.
func outcome(t testing.TB, opt Options, dir string) string {
	t.Helper()
	p, err := Load(context.Background(), opt)
	if err != nil {
		return strings.ReplaceAll(err.Error(), dir, "$DIR") + "\n"
	}
	data, err := json.MarshalIndent(p.Stack, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	out := strings.ReplaceAll(string(data), dir, "$DIR") + "\n"
	for _, w := range p.Warnings {
		out += "warning: " + w + "\n"
	}
	return out
}
