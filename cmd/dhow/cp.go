package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
)

func cpCmd(a *app) *cobra.Command {
	var which choice
	var archive bool
	c := &cobra.Command{
		Use: "cp SERVICE:PATH PATH|- | cp PATH|- SERVICE:PATH", Short: "Copy files between a service's container and this machine", ValidArgsFunction: a.completeCopy,
		Example: `  dhow cp web:/etc/nginx/nginx.conf .
  dhow cp ./page.html web:/usr/share/nginx/html/
  dhow cp db:/var/lib/postgresql/data - > data.tar`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromPath, fromIn := containerPath(args[0])
			to, toPath, toIn := containerPath(args[1])
			switch {
			case fromIn && toIn:
				return usagef("cp: one side must be on this machine")
			case fromIn:
				return a.copyOut(cmd.Context(), from, which, fromPath, args[1], archive)
			case toIn:
				return a.copyIn(cmd.Context(), args[0], to, which, toPath)
			}
			return usagef("cp: one side must be SERVICE:PATH")
		},
	}
	which.register(a, c, "the first")
	c.Flags().BoolVarP(&archive, "archive", "a", false, "out of a container: keep owners (as root) and setuid bits, make devices and FIFOs")
	return c
}

// containerPath splits SERVICE:PATH. A path on this machine with a colon starts with / or a dot.
func containerPath(arg string) (service, path string, ok bool) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", "", false
	}
	return strings.Cut(arg, ":")
}

func (a *app) copyOut(ctx context.Context, service string, which choice, path, dst string, archive bool) error {
	c, ct, err := a.oneContainer(ctx, service, which, true)
	if err != nil {
		return err
	}
	r, st, err := c.CopyFrom(ctx, ct.ID, path)
	if err != nil {
		return copyError(err, service, path)
	}
	defer r.Close()
	if dst == "-" {
		_, err := io.Copy(a.out, r)
		return err
	}
	// cp's rule: into an existing directory under its own name, else as that name.
	name := filepath.Base(dst)
	dir := filepath.Dir(dst)
	if fi, err := os.Stat(dst); err == nil && fi.IsDir() {
		dir, name = dst, st.Name
		if strings.HasSuffix(path, "/.") {
			name = "."
		}
	} else if strings.HasSuffix(dst, "/") {
		return fmt.Errorf("%s is not a directory", dst)
	}
	x := extractor{top: st.Name, name: name, archive: archive}
	err = x.extract(r, dir)
	a.warn(x.left.warnings(service + ":" + path))
	if err == nil && x.made == 0 {
		return fmt.Errorf("%s:%s: nothing was copied", service, path)
	}
	return err
}

func (a *app) copyIn(ctx context.Context, src, service string, which choice, path string) error {
	c, ct, err := a.oneContainer(ctx, service, which, true)
	if err != nil {
		return err
	}
	if src == "-" {
		return copyError(c.CopyTo(ctx, ct.ID, path, a.in, false), service, path)
	}
	fi, err := os.Stat(src)
	if err != nil {
		return err
	}
	dir, name := filepath.Dir(path), filepath.Base(path)
	st, err := c.StatPath(ctx, ct.ID, path)
	switch {
	case err == nil && st.Mode.IsDir():
		dir, name = path, filepath.Base(src)
		if strings.HasSuffix(src, "/.") {
			name = "."
		}
	case err == nil && fi.IsDir():
		return fmt.Errorf("cannot copy the directory %s over the file %s", src, path)
	case client.IsNotFound(err) && strings.HasSuffix(path, "/") && !fi.IsDir():
		return fmt.Errorf("%s:%s is not a directory", service, path)
	case err != nil && !client.IsNotFound(err):
		return copyError(err, service, path)
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(pw, src, name, func(path string) { a.warn([]string{path + ": a socket cannot be copied: left out"}) })
		pw.CloseWithError(err)
		packed <- err
	}()
	err = c.CopyTo(ctx, ct.ID, dir, pr, true)
	pr.CloseWithError(err) // ends pack when the daemon did not read all
	if perr := <-packed; perr != nil && err == nil {
		return perr
	}
	return copyError(err, service, dir)
}

// copyError names the service and the path, as they were given, instead of the container's id.
func copyError(err error, service, path string) error {
	switch {
	case err == nil:
		return nil
	case client.IsNotFound(err):
		return hinted{fmt.Errorf("%s:%s: no such file or directory", service, path), "dhow exec " + service + " ls " + filepath.Dir(path)}
	}
	var said *client.Error
	if errors.As(err, &said) {
		return fmt.Errorf("%s:%s: %w", service, path, said)
	}
	return err
}
