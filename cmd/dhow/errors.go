package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
)

// exitError ends the program with a code of its own and prints nothing.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a wrong command line: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// coded ends the program with a code of its own, with its message.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

// startError gives an error at the start of a process the exit code that shells
// use: 127 for a command that is not there, 126 for one that cannot be run.
func startError(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "executable file not found"), strings.Contains(err.Error(), "no such file or directory"):
		return coded{err, 127}
	case strings.Contains(err.Error(), "permission denied"), strings.Contains(err.Error(), "is a directory"), strings.Contains(err.Error(), "exec format error"):
		return coded{err, 126}
	}
	return err
}

// hinted carries what the user may type next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// exitCode prints err with its hint and returns the program's exit code.
func (a *app) exitCode(ctx context.Context, err error) int {
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return 130
	}
	fmt.Fprintln(a.err, "dhow:", message(err))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(a.err, "  try:", hint)
	}
	var code coded
	switch {
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &usage), exclusive.MatchString(err.Error()):
		return 2
	}
	return 1
}

// exclusive is what cobra says of flags that exclude each other.
var exclusive = regexp.MustCompile(`^if any flags in the group .*\[(.*)\] were all set$`)

// message is err's text for a person.
func message(err error) string {
	if m := exclusive.FindStringSubmatch(err.Error()); m != nil {
		return "--" + strings.ReplaceAll(m[1], " ", " and --") + " exclude each other"
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for i, l := range lines {
		for _, kind := range kinds {
			l = strings.TrimSuffix(l, ": "+kind.Error())
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// kinds are the errors that only sort others: their words say nothing to a person at the end of a sentence.
var kinds = []error{runtime.ErrConflict, runtime.ErrInvalid, runtime.ErrForbidden}

// hintFor is the next thing to type.
func hintFor(err error) string {
	var h hinted
	var down *client.Unreachable
	var cut *client.Cut
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &down):
		return "dhow daemon --detach (as root), or name another daemon with --host or DHOW_HOST"
	case errors.As(err, &cut):
		return "the same again when the daemon runs, such as dhow up: containers go on meanwhile"
	}
	return ""
}
