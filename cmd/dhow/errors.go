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
		fmt.Fprintln(a.err, hint)
	}
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// hintFor is the next thing to type.
func hintFor(err error) string {
	var h hinted
	var down *client.Unreachable
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &down):
		return "  start a daemon with `dhow daemon` (as root), or name another one with --host or DHOW_HOST"
	}
	return ""
}
