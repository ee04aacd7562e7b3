package table

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

// Column is one column of a table of T.
type Column[T any] struct {
	Head  string
	Value func(T) string
	Min   int // a column with Min > 0 is cut down to that many characters when the table is too wide
}

// Options of Print.
type Options struct {
	Format string // "" or "table", "json", "table TEMPLATE", or a Go template over a row
	Width  int    // characters of the terminal; 0: 100. Negative: nothing is cut
	Quiet  bool   // only the first column, no heading
}

// Print writes rows as o says. A template sees a row's fields and the
// functions json, join, lower, upper, split, truncate.
func Print[T any](w io.Writer, o Options, rows []T, cols []Column[T]) error {
	switch {
	case o.Quiet:
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, cols[0].Value(r)); err != nil {
				return err
			}
		}
		return nil
	case o.Format == "" || o.Format == "table":
		return write(w, cells(rows, cols), cols, o.Width)
	case o.Format == "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if text, ok := strings.CutPrefix(o.Format, "table "); ok {
		return writeTemplate(w, text, rows, o.Width)
	}
	return execute(w, o.Format, rows)
}

var field = regexp.MustCompile(`\{\{[^}.]*\.(\w+)[^}]*\}\}`)

// writeTemplate writes a table whose columns are the parts of a template
// between tabs, with the names of the fields as headings.
func writeTemplate[T any](w io.Writer, format string, rows []T, width int) error {
	t, err := Template(format)
	if err != nil {
		return err
	}
	head := field.ReplaceAllStringFunc(strings.ReplaceAll(format, `\t`, "\t"), func(m string) string {
		return strings.ToUpper(field.FindStringSubmatch(m)[1])
	})
	lines := [][]string{strings.Split(head, "\t")}
	for _, r := range rows {
		var b strings.Builder
		if err := t.Execute(&b, r); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		line := strings.Split(b.String(), "\t")
		for i, c := range line {
			line[i] = clean(c)
		}
		lines = append(lines, line)
	}
	most := 0
	for _, l := range lines {
		most = max(most, len(l))
	}
	return write(w, lines, make([]Column[T], most), width)
}

// Template checks a --format value before any work is done for it.
func Template(format string) (*template.Template, error) {
	text := strings.TrimPrefix(format, "table ")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("format").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format: %w (use table, json or a Go template such as '{{.Name}}')", err)
	}
	return t, nil
}

var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		data, err := json.Marshal(v)
		return string(data), err
	},
	"join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper, "split": strings.Split,
	"truncate": cut,
}

func execute[T any](w io.Writer, format string, rows []T) error {
	t, err := Template(format)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := t.Execute(w, r); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func cells[T any](rows []T, cols []Column[T]) [][]string {
	out := make([][]string, 0, len(rows)+1)
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = c.Head
	}
	out = append(out, head)
	for _, r := range rows {
		line := make([]string, len(cols))
		for i, c := range cols {
			line[i] = clean(c.Value(r))
		}
		out = append(out, line)
	}
	return out
}

// gap is the space between columns; a table that is too wide makes do with less.
const gap, least = 3, 1

func write[T any](w io.Writer, lines [][]string, cols []Column[T], width int) error {
	widths := make([]int, len(cols))
	for _, l := range lines {
		for i, c := range l {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	if width == 0 {
		width = 100
	}
	between, gaps := gap, len(widths)-1
	if width > 0 {
		shrink(widths, cols, width-between*gaps)
	}
	for width > 0 && between > least && sum(widths)+between*gaps > width {
		between--
	}
	var b strings.Builder
	for _, l := range lines {
		for i, c := range l {
			c = cut(c, widths[i])
			b.WriteString(c)
			if i < len(l)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+between))
			}
		}
		line := strings.TrimRight(b.String(), " ")
		b.Reset()
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func sum(ns []int) int {
	total := 0
	for _, n := range ns {
		total += n
	}
	return total
}

// shrink cuts the widest column that may be cut until all of them fit.
func shrink[T any](widths []int, cols []Column[T], width int) {
	total := sum(widths)
	for total > width {
		widest := -1
		for i, c := range cols {
			if c.Min > 0 && widths[i] > c.Min && (widest < 0 || widths[i]-c.Min > widths[widest]-cols[widest].Min) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
}

// cut shortens s to n characters, the last one an ellipsis.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// clean keeps a cell on its line, and control sequences out of the terminal.
func clean(s string) string {
	if !slices.ContainsFunc([]rune(s), control) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return ' '
		}
		return r
	}, s)
}

func control(r rune) bool { return r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }
