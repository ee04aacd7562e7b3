package table

import (
	"bytes"
	"strings"
	"testing"
)

type row struct{ Name, Image string }

var columns = []Column[row]{
	{Head: "NAME", Value: func(r row) string { return r.Name }},
	{Head: "IMAGE", Value: func(r row) string { return r.Image }, Min: 8},
}

func TestPrint(t *testing.T) {
	rows := []row{{"web", "nginx:latest"}, {"a-long-name", "registry.example/team/image@sha256:0123456789"}}
	for _, tc := range []struct {
		name string
		opt  Options
		want string
	}{
		{"table", Options{}, "NAME          IMAGE\nweb           nginx:latest\na-long-name   registry.example/team/image@sha256:0123456789\n"},
		{"narrow", Options{Width: 24}, "NAME          IMAGE\nweb           nginx:lat…\na-long-name   registry.…\n"},
		{"never below the minimum", Options{Width: 5}, "NAME        IMAGE\nweb         nginx:l…\na-long-name registr…\n"},
		{"uncut", Options{Width: -1}, "NAME          IMAGE\nweb           nginx:latest\na-long-name   registry.example/team/image@sha256:0123456789\n"},
		{"table of a template", Options{Format: "table {{.Image}}\\t{{lower .Name}}"}, "IMAGE                                           NAME\nnginx:latest                                    web\nregistry.example/team/image@sha256:0123456789   a-long-name\n"},
		{"quiet", Options{Quiet: true}, "web\na-long-name\n"},
		{"json", Options{Format: "json"}, `{"Name":"web","Image":"nginx:latest"}` + "\n" + `{"Name":"a-long-name","Image":"registry.example/team/image@sha256:0123456789"}` + "\n"},
		{"template", Options{Format: "{{upper .Name}}\\t{{json .Image}}"}, "WEB\t\"nginx:latest\"\nA-LONG-NAME\t\"registry.example/team/image@sha256:0123456789\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Print(&b, tc.opt, rows, columns); err != nil {
				t.Fatal(err)
			}
			if b.String() != tc.want {
				t.Errorf("got:\n%swant:\n%s", b.String(), tc.want)
			}
		})
	}
}

func TestPrintRefusesABadTemplate(t *testing.T) {
	for _, format := range []string{"{{", "{{.Nope}}"} {
		err := Print(&bytes.Buffer{}, Options{Format: format}, []row{{}}, columns)
		if err == nil || !strings.HasPrefix(err.Error(), "--format: ") {
			t.Errorf("%s: got %v, want an error that names --format", format, err)
		}
	}
}

func TestCellsCannotMoveTheCursor(t *testing.T) {
	var b bytes.Buffer
	if err := Print(&b, Options{}, []row{{"a\x1b[2Jb\nc", "x"}}, columns); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b") || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("control characters came through: %q", b.String())
	}
}
