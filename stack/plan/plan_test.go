package plan

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/dhow-project/dhow/stack"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestDiff runs the cases of testdata: want and have are stacks, tasks and
// options what their names say, all JSON; plan is what Diff prints.
func TestDiff(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want stack.Stack
			var have Snapshot
			var opt Options
			expected, at := "", -1
			for i, f := range ar.Files {
				switch f.Name {
				case "want":
					decode(t, f.Data, &want)
				case "have":
					have.Stack = &stack.Stack{}
					decode(t, f.Data, have.Stack)
				case "tasks":
					decode(t, f.Data, &have.Tasks)
				case "networks":
					decode(t, f.Data, &have.Networks)
				case "volumes":
					decode(t, f.Data, &have.Volumes)
				case "options":
					decode(t, f.Data, &opt)
				case "plan":
					expected, at = string(f.Data), i
				default:
					t.Fatalf("unknown section %s", f.Name)
				}
			}
			got := Diff(named(want), have, opt).String()
			if got == expected {
				return
			}
			if !*update {
				t.Fatalf("got\n%s\nwant\n%s", got, expected)
			}
			if at < 0 {
				ar.Files, at = append(ar.Files, txtar.File{Name: "plan"}), len(ar.Files)
			}
			ar.Files[at].Data = []byte(got)
			if err := os.WriteFile(file, txtar.Format(ar), 0o666); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		t.Fatal(err)
	}
	if s, ok := v.(*stack.Stack); ok {
		*s = named(*s)
	}
}

// named fills in what the loader would: names from keys.
func named(s stack.Stack) stack.Stack {
	s.Name = "shop"
	for key, svc := range s.Services {
		svc.Name = key
		s.Services[key] = svc
	}
	for key, n := range s.Networks {
		if n.Name == "" {
			n.Name = "shop_" + key
		}
		n.Key = key
		s.Networks[key] = n
	}
	for key, v := range s.Volumes {
		if v.Name == "" {
			v.Name = "shop_" + key
		}
		v.Key = key
		s.Volumes[key] = v
	}
	return s
}

// TestSecretsStaySecret looks for values in everything that a plan shows.
func TestSecretsStaySecret(t *testing.T) {
	a := stack.Stack{Services: map[string]stack.Service{"web": {Name: "web", Container: stack.ContainerSpec{
		Image: "x", Env: []string{"PASSWORD=hunter1"}, Command: []string{"--token=hunter1"}, Labels: map[string]string{"l": "hunter1"},
		Secrets: []stack.FileRef{{Source: "s", Target: "/s"}}}}},
		Secrets: map[string]stack.Secret{"s": {Name: "s", Data: []byte("hunter1")}}}
	b := a.Clone()
	svc := b.Services["web"]
	svc.Container.Env = []string{"PASSWORD=hunter2"}
	svc.Container.Command = []string{"--token=hunter2"}
	svc.Container.Labels["l"] = "hunter2"
	b.Services["web"] = svc
	b.Secrets["s"] = stack.Secret{Name: "s", Data: []byte("hunter2")}
	p := Diff(b, Snapshot{Stack: &a}, Options{})
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if out := p.String() + string(data); strings.Contains(out, "hunter") || !strings.Contains(out, "environment PASSWORD changed") {
		t.Fatal(out)
	}
}
