package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack/compose"
)

func (a *app) composeOptions(services []string) compose.Options {
	return compose.Options{
		Files: a.files, ProjectDir: a.projectDir, ProjectName: a.project, EnvFiles: a.envFiles,
		Env: a.env, Profiles: a.profiles, Services: services,
	}
}

// load reads the stack's files.
func (a *app) load(ctx context.Context, services ...string) (*compose.Project, error) {
	p, err := compose.Load(ctx, a.composeOptions(services))
	if err != nil {
		return nil, err
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(a.err, "warning:", w)
	}
	return p, nil
}

// stackName is the name of the stack that a command is about: -p and
// COMPOSE_PROJECT_NAME are enough, so that a stack can be handled without its file.
func (a *app) stackName(ctx context.Context) (string, error) {
	name, err := compose.Name(a.composeOptions(nil))
	var bad *compose.Error
	if err == nil || !errors.As(err, &bad) {
		return name, err
	}
	if errors.Is(err, compose.ErrNoFile) {
		return "", hinted{err, "dhow ls, then dhow -p NAME: with a name no file is needed"}
	}
	if known := a.stackOf(ctx, bad.File); known != "" {
		return "", hinted{err, "dhow -p " + known + " down: with a name the file is not read"}
	}
	return "", err
}

// stackOf is the name of the one stack that the daemon made of a file; "" when it knows none.
func (a *app) stackOf(ctx context.Context, file string) string {
	file, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	names := a.ask(ctx, func(ctx context.Context, c *client.Client) (names []string, err error) {
		list, err := c.Stacks(ctx)
		for _, s := range list {
			if slices.Contains(s.Stack.Files, file) {
				names = append(names, s.Stack.Name)
			}
		}
		return names, err
	})
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

// notRunning is the error for a stack that the daemon does not have.
type notRunning struct {
	stack string
	error
}

func (n notRunning) Error() string { return "stack " + n.stack + " does not run" }
func (n notRunning) Unwrap() error { return n.error }

// services of a stack that runs: args checked against it, or all of them.
func (a *app) services(ctx context.Context, c *client.Client, stackName string, args []string) ([]string, error) {
	st, err := c.Stack(ctx, stackName)
	if client.IsNotFound(err) {
		return nil, hinted{notRunning{stackName, err}, "dhow up, or dhow ls"}
	}
	if err != nil {
		return nil, err
	}
	known := make([]string, 0, len(st.Services))
	set := map[string]bool{}
	for _, s := range st.Services {
		known = append(known, s.Name)
		set[s.Name] = true
	}
	sort.Strings(known)
	if len(args) == 0 {
		return known, nil
	}
	for _, s := range args {
		if !set[s] {
			return nil, noService("stack "+stackName+": ", s, known)
		}
	}
	return args, nil
}
