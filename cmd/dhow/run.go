package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/compose"
)

type runFlags struct {
	remove, detach, noTTY, noDeps, servicePorts bool
	env, volumes, labels                        []string
	name, user, workdir, entrypoint, pull       string
}

func runCmd(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run SERVICE [COMMAND] [ARG...]", Short: "Run a one-off container of a service",
		Long: `Run a one-off container of a service, after the services it depends on.

It has the service's networks, volumes and environment, but not its published ports. When the
stack is down, its networks are made for it, and stay until dhow down: the stack is listed as
one whose service has no tasks.`,
		Example: `  dhow run --rm app python3 manage.py migrate
  dhow run --rm -e DEBUG=1 app sh`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeOneService,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runOnce(cmd.Context(), f, args[0], args[1:]) },
	}
	fl := c.Flags()
	fl.SetInterspersed(false)
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it has ended")
	fl.BoolVarP(&f.detach, "detach", "d", false, "start it and print its name")
	fl.BoolVarP(&f.noTTY, "no-tty", "T", false, "no terminal, also when this is one")
	fl.BoolVar(&f.noTTY, "no-TTY", false, "as --no-tty")
	fl.BoolVar(&f.noDeps, "no-deps", false, "do not start the services it depends on")
	fl.BoolVarP(&f.servicePorts, "service-ports", "P", false, "publish the service's ports")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "KEY=VALUE, or KEY from this environment")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "further bind mount: SOURCE:TARGET[:ro]")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "KEY=VALUE")
	fl.StringVar(&f.name, "name", "", "name of the container")
	fl.StringVarP(&f.user, "user", "u", "", "user to run as")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "directory to run in")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "instead of the service's")
	fl.StringVar(&f.pull, "pull", "", "pull the image first: always, missing (default) or never")
	mustHide(c, "no-TTY")
	return c
}

func (a *app) runOnce(ctx context.Context, f runFlags, service string, command []string) error {
	p, err := a.load(ctx, service)
	if err != nil {
		return err
	}
	svc, ok := p.Stack.Services[service]
	if !ok {
		return noService("", service, sortedKeys(p.Stack.Services))
	}
	c, err := a.startedDaemon(ctx)
	if err != nil {
		return err
	}
	if err := a.startDependencies(ctx, c, p, svc, f); err != nil {
		return err
	}
	spec, err := a.oneOffSpec(p.Stack, svc, f, command)
	if err != nil {
		return err
	}
	name := f.name
	if name == "" {
		name = fmt.Sprintf("%s-%s-run-%s", p.Stack.Name, service, randomHex(6))
	}
	made, err := c.CreateContainer(ctx, name, spec)
	if err != nil {
		return err
	}
	for _, w := range made.Warnings {
		fmt.Fprintln(a.err, "warning:", w)
	}
	if f.detach {
		if err := c.StartContainer(ctx, made.ID); err != nil {
			return err
		}
		fmt.Fprintln(a.out, name)
		return nil
	}
	return a.runAttached(ctx, c, made.ID, spec, f.remove)
}

// startDependencies makes the networks and volumes of the stack exist, and
// starts what the service needs. A service without dependencies is applied with
// no task of its own.
func (a *app) startDependencies(ctx context.Context, c *client.Client, p *compose.Project, svc stack.Service, f runFlags) error {
	needs := chosenServices(p.Stack, []string{svc.Name}, f.noDeps)
	if err := a.ensureImages(ctx, c, p, needs, f.pull, false); err != nil {
		return err
	}
	var deps []string
	for _, s := range needs {
		if s != svc.Name {
			deps = append(deps, s)
		}
	}
	up := upFlags{}
	want := p.Stack
	if len(deps) == 0 || f.noDeps {
		deps = []string{svc.Name}
		if _, err := c.Stack(ctx, want.Name); err == nil {
			return nil // it is there, and with it its networks
		} else if !client.IsNotFound(err) {
			return err
		}
		up.scale = map[string]int{svc.Name: 0}
	}
	res, err := apply(ctx, c, p, want, up.options(deps), false)
	if err != nil {
		return err
	}
	w := watch{app: a, client: c, stack: want.Name, services: deps, index: res.Index}
	if up.scale == nil {
		w.goal = isHealthy
	}
	return w.run(ctx)
}

// oneOffSpec is the service's container for one run.
func (a *app) oneOffSpec(s stack.Stack, svc stack.Service, f runFlags, command []string) (stack.ContainerSpec, error) {
	spec := svc.Container.Clone()
	tty := a.wantTTY(f.noTTY) && !f.detach
	spec.TTY, spec.OpenStdin, spec.StdinOnce = tty, !f.detach, !f.detach
	spec.Restart, spec.Healthcheck = stack.RestartPolicy{}, &stack.Healthcheck{Test: []string{"NONE"}}
	if !f.servicePorts {
		spec.Ports = nil
	}
	if f.entrypoint != "" {
		spec.Entrypoint, spec.Command = []string{f.entrypoint}, []string{}
	}
	if len(command) > 0 {
		spec.Command = command
	}
	if f.user != "" {
		spec.User = f.user
	}
	if f.workdir != "" {
		spec.WorkingDir = f.workdir
	}
	for _, e := range f.env {
		if !strings.Contains(e, "=") {
			e += "=" + a.getenv(e)
		}
		spec.Env = append(spec.Env, e)
	}
	for _, v := range f.volumes {
		m, err := bindMount(v)
		if err != nil {
			return spec, err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	for _, l := range f.labels {
		k, v, _ := strings.Cut(l, "=")
		spec.Labels[k] = v
	}
	spec.Labels[labelProject], spec.Labels[labelService], spec.Labels[labelOneOff] = s.Name, svc.Name, "True"
	return resolveNames(s, spec)
}

// resolveNames replaces keys of the stack file by the real names, as the agent does for tasks.
func resolveNames(s stack.Stack, spec stack.ContainerSpec) (stack.ContainerSpec, error) {
	for i, n := range spec.Networks {
		if net, ok := s.Networks[n.Network]; ok {
			spec.Networks[i].Network = net.Name
			spec.Networks[i].IPv4, spec.Networks[i].IPv6 = "", "" // static addresses belong to the service's own container
			spec.Networks[i].Aliases = nil
		}
	}
	for i, m := range spec.Mounts {
		if v, ok := s.Volumes[m.Source]; ok && m.Type == stack.MountVolume {
			spec.Mounts[i].Source = v.Name
			spec.Mounts[i].VolumeDriver, spec.Mounts[i].VolumeOpts, spec.Mounts[i].VolumeLabels = v.Driver, v.DriverOpts, v.Labels
		}
	}
	for i, r := range spec.Secrets {
		spec.Secrets[i].Data = s.Secrets[r.Source].Data
	}
	for i, r := range spec.Configs {
		spec.Configs[i].Data = s.Configs[r.Source].Data
	}
	for _, mode := range []string{spec.NetworkMode, spec.PIDMode, spec.IPCMode} {
		if strings.HasPrefix(mode, "service:") {
			return spec, fmt.Errorf("run: %s is not supported for a one-off container; use exec on the service", mode)
		}
	}
	return spec, nil
}

func bindMount(v string) (stack.Mount, error) {
	parts := strings.Split(v, ":")
	if len(parts) < 2 || len(parts) > 3 || !strings.HasPrefix(parts[1], "/") {
		return stack.Mount{}, usagef("--volume %s: use SOURCE:TARGET[:ro]", v)
	}
	m := stack.Mount{Type: stack.MountVolume, Source: parts[0], Target: parts[1]}
	if strings.HasPrefix(parts[0], "/") {
		m.Type, m.CreateHostPath = stack.MountBind, true
	} else if strings.HasPrefix(parts[0], ".") || strings.HasPrefix(parts[0], "~") {
		return m, usagef("--volume %s: give an absolute path", v)
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			return m, usagef("--volume %s: %s is neither ro nor rw", v, parts[2])
		}
	}
	return m, nil
}

// runAttached starts a container with our streams and ends with its exit code.
func (a *app) runAttached(ctx context.Context, c *client.Client, id string, spec stack.ContainerSpec, remove bool) error {
	if remove {
		defer func() {
			err := c.RemoveContainer(context.WithoutCancel(ctx), id, runtime.RemoveOptions{Force: true, Volumes: true})
			if err != nil && !client.IsNotFound(err) {
				fmt.Fprintln(a.err, "dhow: remove the container:", err)
			}
		}()
	}
	s, err := c.Attach(ctx, id, runtime.AttachOptions{Stdin: spec.OpenStdin, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer s.Close()
	wait, err := c.WaitContainer(ctx, id, runtime.WaitNextExit)
	if err != nil {
		return err
	}
	if err := c.StartContainer(ctx, id); err != nil {
		return startError(err)
	}
	resize := func(rows, cols uint16) error { return c.ResizeContainer(ctx, id, rows, cols) }
	if err := a.interact(ctx, s, spec.TTY, spec.OpenStdin, resize); err != nil {
		return err
	}
	select {
	case w := <-wait:
		if w.Err != nil {
			return w.Err
		}
		if w.Code != 0 {
			return exitError(w.Code)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
