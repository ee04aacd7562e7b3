package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/stack/compose"
)

// completion is what cobra calls for words of the command line.
type completion = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// completeTimeout bounds questions to the daemon: a shell waits for the answer.
const completeTimeout = 2 * time.Second

// completeServices completes names of services from the file, or of the stack that runs.
func (a *app) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return without(a.serviceNames(cmd.Context()), args), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) serviceNames(ctx context.Context) []string {
	if p, err := compose.Load(ctx, a.composeOptions(nil)); err == nil {
		return sortedKeys(p.Stack.Services)
	}
	name, err := a.stackName(ctx)
	if err != nil {
		return nil
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) ([]string, error) {
		st, err := c.Stack(ctx, name)
		return sortedKeys(st.Stack.Services), err
	})
}

// completeOneService completes only the first argument.
func (a *app) completeOneService(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeServices(cmd, args, word)
}

// completeScale completes SERVICE= of --scale and scale.
func (a *app) completeScale(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, s := range a.serviceNames(cmd.Context()) {
		if !strings.Contains(word, "=") {
			out = append(out, s+"=")
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeCopy completes SERVICE: beside the names of files.
func (a *app) completeCopy(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.ContainsAny(word, "/.") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	for _, s := range a.serviceNames(cmd.Context()) {
		out = append(out, s+":")
	}
	return out, cobra.ShellCompDirectiveNoSpace
}

// completeProfiles completes --profile.
func (a *app) completeProfiles(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	p, err := compose.Load(cmd.Context(), a.composeOptions(nil))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.Profiles, cobra.ShellCompDirectiveNoFileComp
}

// completeStacks completes --project-name.
func (a *app) completeStacks(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.ask(cmd.Context(), func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Stacks(ctx)
		names := make([]string, 0, len(list))
		for _, s := range list {
			names = append(names, s.Stack.Name)
		}
		return names, err
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeVolumes completes names of volumes, as many as the command takes.
func (a *app) completeVolumes(most int) completion {
	return a.completeNames(most, func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Volumes(ctx, nil)
		names := make([]string, 0, len(list))
		for _, v := range list {
			names = append(names, v.Name)
		}
		return names, err
	})
}

// completeNetworks completes names of networks.
func (a *app) completeNetworks() completion {
	return a.completeNames(-1, func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Networks(ctx, nil)
		names := make([]string, 0, len(list))
		for _, n := range list {
			names = append(names, n.Name)
		}
		return names, err
	})
}

func (a *app) completeNames(most int, list func(context.Context, *client.Client) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return without(a.ask(cmd.Context(), list), args), cobra.ShellCompDirectiveNoFileComp
	}
}

// ask asks the daemon for names; without an answer there is nothing to complete.
func (a *app) ask(ctx context.Context, list func(context.Context, *client.Client) ([]string, error)) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return nil
	}
	names, err := list(ctx, c)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// without leaves out what is on the command line already.
func without(names, given []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(given, n) })
}

// completeGlobalFlags completes the values of global flags, as far as c has not its own of the name.
func (a *app) completeGlobalFlags(c *cobra.Command) {
	for name, f := range map[string]cobra.CompletionFunc{
		"ansi":         cobra.FixedCompletions([]string{"auto", "never", "always"}, cobra.ShellCompDirectiveNoFileComp),
		"file":         cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		"profile":      a.completeProfiles,
		"project-name": a.completeStacks,
	} {
		if _, has := c.GetFlagCompletionFunc(name); !has {
			mustComplete(c.RegisterFlagCompletionFunc(name, f))
		}
	}
}
