package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dhow-project/dhow/api/client"
)

type execFlags struct {
	detach, noTTY, privileged bool
	interactive               bool
	env                       []string
	user, workdir             string
	which                     choice
}

func execCmd(a *app) *cobra.Command {
	var f execFlags
	c := &cobra.Command{
		Use: "exec SERVICE COMMAND [ARG...]", Short: "Run a command in a running container of a service",
		Example: `  dhow exec web sh
  dhow exec -T db pg_dump -U guest guestbook > dump.sql
  dhow exec --index 2 app env
  dhow exec --node n3 agent ps     of a service that runs on every node`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.completeOneService,
		RunE: func(cmd *cobra.Command, args []string) error { return a.exec(cmd.Context(), f, args[0], args[1:]) },
	}
	fl := c.Flags()
	fl.SetInterspersed(false)
	fl.BoolVarP(&f.detach, "detach", "d", false, "start it and return")
	fl.BoolVarP(&f.noTTY, "no-tty", "T", false, "no terminal, also when this is one")
	fl.BoolVar(&f.noTTY, "no-TTY", false, "as --no-tty")
	fl.BoolVarP(&f.interactive, "interactive", "i", true, "keep standard input open")
	fl.BoolVar(&f.privileged, "privileged", false, "with all capabilities")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "KEY=VALUE")
	fl.StringVarP(&f.user, "user", "u", "", "user to run as")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "directory to run in")
	f.which.register(a, c, "the first that runs")
	mustHide(c, "no-TTY")
	return c
}

// mustHide hides a flag that exists for scripts of other tools.
func mustHide(c *cobra.Command, flag string) { mustComplete(c.Flags().MarkHidden(flag)) }

func (a *app) exec(ctx context.Context, f execFlags, service string, command []string) error {
	c, ct, err := a.oneContainer(ctx, service, f.which, false)
	if err != nil {
		return err
	}
	tty := a.wantTTY(f.noTTY) && !f.detach
	req := container.ExecCreateRequest{
		User: f.user, Privileged: f.privileged, Tty: tty, Env: f.env, WorkingDir: f.workdir, Cmd: command,
		AttachStdin: f.interactive && !f.detach, AttachStdout: !f.detach, AttachStderr: !f.detach && !tty,
	}
	id, err := c.ExecCreate(ctx, ct.ID, req)
	if err != nil {
		return err
	}
	if f.detach {
		return c.ExecDetached(ctx, id)
	}
	start := container.ExecStartRequest{Tty: tty}
	if rows, cols, ok := a.size(); ok && tty {
		start.ConsoleSize = &[2]uint{uint(rows), uint(cols)}
	}
	s, err := c.ExecStart(ctx, id, start)
	if err != nil {
		return startError(err)
	}
	defer s.Close()
	resize := func(rows, cols uint16) error { return c.ExecResize(ctx, id, rows, cols) }
	if err := a.interact(ctx, s, tty, req.AttachStdin, resize); err != nil {
		return err
	}
	in, err := c.ExecInspect(ctx, id)
	if err != nil {
		return err
	}
	if in.ExitCode == nil {
		return errors.New("the command's output ended, but it still runs")
	}
	if *in.ExitCode != 0 {
		return exitError(*in.ExitCode)
	}
	return nil
}

// wantTTY says whether a command gets a terminal: both ends of ours must be one.
func (a *app) wantTTY(no bool) bool {
	_, in := terminal(a.in)
	_, out := terminal(a.out)
	return in && out && !no
}

// size of our terminal.
func (a *app) size() (rows, cols uint16, ok bool) {
	f, tty := terminal(a.out)
	if !tty {
		return 0, 0, false
	}
	w, h, err := term.GetSize(int(f.Fd()))
	return uint16(h), uint16(w), err == nil
}

// interact connects our standard streams to a process until its output ends.
func (a *app) interact(ctx context.Context, s *client.Stream, tty, stdin bool, resize func(rows, cols uint16) error) error {
	if tty {
		restore, err := a.rawTerminal(ctx, resize)
		if err != nil {
			return err
		}
		defer restore()
	}
	if stdin {
		go func() { // ends with our input or with the process; there is no way to interrupt a read of a terminal
			_, err := io.Copy(s, a.in)
			if err == nil {
				_ = s.CloseWrite() // the process may have ended meanwhile
			}
		}()
	}
	done := make(chan error, 1)
	go func() { done <- s.Output(a.out, a.err) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rawTerminal hands the terminal over to the process and keeps its size in step.
func (a *app) rawTerminal(ctx context.Context, resize func(rows, cols uint16) error) (restore func(), err error) {
	f, ok := terminal(a.in)
	if !ok {
		return func() {}, nil
	}
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, syscall.SIGWINCH)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			if rows, cols, ok := a.size(); ok {
				_ = resize(rows, cols) // a process that has just ended has no size
			}
			select {
			case <-winch:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		signal.Stop(winch)
		_ = term.Restore(int(f.Fd()), state) // nothing can be done about a terminal that is gone
	}, nil
}
