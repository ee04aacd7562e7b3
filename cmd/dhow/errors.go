package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/api/client"
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
	fmt.Fprintln(a.err, "dhow:", strings.TrimSpace(err.Error()))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(a.err, "  try:", hint)
	}
	var code coded
	switch {
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "if any flags in the group"):
		return 2
	}
	return 1
}

// noService is about a name that the file or the stack does not have.
func noService(where, name string, have []string) error {
	err := fmt.Errorf("%sno service %s; there are: %s", where, name, strings.Join(have, ", "))
	if close := nearest(name, have); close != "" {
		return hinted{err, close}
	}
	return err
}

// nearest is the candidate that a typing error away could make name; "" when none is near.
func nearest(name string, candidates []string) string {
	best, least := "", max(1, len(name)/3)
	for _, c := range candidates {
		if d := distance(name, c); d <= least && (best == "" || d < least) {
			best, least = c, d
		}
	}
	return best
}

// distance is Levenshtein's: how many letters differ, are missing or too many.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// hintFor is the next thing to type.
func hintFor(err error) string {
	var h hinted
	var down *client.Unreachable
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &down):
		return "dhow daemon --detach (as root), or name another daemon with --host or DHOW_HOST"
	}
	return ""
}
