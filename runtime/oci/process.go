package oci

import (
	"path"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is PATH where the image says nothing.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// InitTarget is where the init program is seen in the container.
const InitTarget = "/sbin/docker-init"

// Args is the command line: entrypoint and command of the container, each
// falling back on the image. An own entrypoint drops the image's command.
func Args(c stack.ContainerSpec, img runtime.ImageConfig) []string {
	entrypoint, cmd := c.Entrypoint, c.Command
	if entrypoint == nil {
		entrypoint = img.Entrypoint
		if cmd == nil {
			cmd = img.Cmd
		}
	}
	return slices.Concat(entrypoint, cmd)
}

func (b *builder) process() error {
	c, p := b.in.Spec, b.s.Process
	args := Args(c, b.in.Image)
	if len(args) == 0 {
		return invalid("no command: neither the container nor image %q names one", c.Image)
	}
	if c.Init {
		args = append([]string{InitTarget, "--"}, args...)
	}
	user, home, err := specs.User{}, "", error(nil)
	if !b.checkOnly {
		user, home, err = lookupUser(b.in.Rootfs, first(c.User, b.in.Image.User), c.GroupAdd)
	}
	if err != nil {
		return err
	}
	p.Args, p.User, p.Terminal = args, user, c.TTY
	p.Cwd = path.Join("/", first(c.WorkingDir, b.in.Image.WorkingDir))
	p.Env = Env(c, b.in.Image, b.in.Hostname, home)
	if c.TTY && c.ConsoleSize[0] > 0 && c.ConsoleSize[1] > 0 {
		p.ConsoleSize = &specs.Box{Height: uint(c.ConsoleSize[0]), Width: uint(c.ConsoleSize[1])}
	}
	return nil
}

// Env is the environment: defaults, then the image's, then the container's.
// A container's KEY without value removes the image's variable.
func Env(c stack.ContainerSpec, img runtime.ImageConfig, hostname, home string) []string {
	env := []string{"PATH=" + DefaultPath}
	if hostname != "" {
		env = append(env, "HOSTNAME="+hostname)
	}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	env = mergeEnv(mergeEnv(env, img.Env), c.Env)
	if home != "" && !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+home)
	}
	return env
}

// mergeEnv puts over on base: known keys keep their place, new ones follow,
// keys without value are removed.
func mergeEnv(base, over []string) []string {
	out := slices.Clone(base)
	for _, kv := range over {
		key, _, hasValue := strings.Cut(kv, "=")
		if key == "" {
			continue
		}
		at := slices.IndexFunc(out, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		switch {
		case at >= 0 && hasValue:
			out[at] = kv
		case at >= 0:
			out = slices.Delete(out, at, at+1)
		case hasValue:
			out = append(out, kv)
		}
	}
	return out
}

// Exec makes the process of an exec from the container's own.
func Exec(container *specs.Spec, c stack.ContainerSpec, rootfs string, x runtime.ExecSpec, f Facts) (*specs.Process, error) {
	p := *container.Process
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, nil
	p.Cwd = path.Join("/", first(x.WorkingDir, p.Cwd))
	if x.TTY && x.Rows > 0 && x.Cols > 0 {
		p.ConsoleSize = &specs.Box{Height: uint(x.Rows), Width: uint(x.Cols)}
	}
	base := p.Env
	if x.User != "" {
		user, home, err := lookupUser(rootfs, x.User, c.GroupAdd)
		if err != nil {
			return nil, err
		}
		p.User = user
		base = mergeEnv(base, []string{"HOME=" + home})
	}
	if x.TTY {
		base = mergeEnv([]string{"TERM=xterm"}, base)
	}
	p.Env = mergeEnv(base, x.Env)
	caps := p.Capabilities.Bounding
	if x.Privileged {
		caps = f.Caps
		p.ApparmorProfile = ""
	}
	p.Capabilities = capabilitySets(caps, p.User.UID)
	return &p, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
