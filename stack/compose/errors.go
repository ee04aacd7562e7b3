package compose

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a file.
type Error struct {
	File string // as the user named it, or as it was found; may be ""
	Line int    // 1 is the first; 0: unknown
	Path string // "services.web.ports[0]"; may be ""
	Msg  string

	kind error // for errors.Is; mostly nil
}

// ErrNoFile is the kind of error when no file was named and none of the default names is there.
var ErrNoFile = errors.New("no compose.yaml here or in a directory above; name the file with -f")

// Unwrap gives errors.Is the kind of the problem.
func (e *Error) Unwrap() error { return e.kind }

// Error is one line: "compose.yaml:12: services.web.ports[0]: port 70000 is out of range".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Errors are all problems of one load, in the order of files and lines.
type Errors []*Error

// Error is one line per problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As and errors.Is each problem.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}
