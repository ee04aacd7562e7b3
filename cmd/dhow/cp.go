package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
)

func cpCmd(a *app) *cobra.Command {
	var index int
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
				return a.copyOut(cmd.Context(), from, index, fromPath, args[1])
			case toIn:
				return a.copyIn(cmd.Context(), args[0], to, index, toPath)
			}
			return usagef("cp: one side must be SERVICE:PATH")
		},
	}
	c.Flags().IntVar(&index, "index", 0, "number of the container (default: the first)")
	return c
}

// containerPath splits SERVICE:PATH. A path on this machine with a colon starts with / or a dot.
func containerPath(arg string) (service, path string, ok bool) {
	if strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", "", false
	}
	return strings.Cut(arg, ":")
}

func (a *app) copyOut(ctx context.Context, service string, index int, path, dst string) error {
	c, ct, err := a.oneContainer(ctx, service, index, true)
	if err != nil {
		return err
	}
	r, st, err := c.CopyFrom(ctx, ct.ID, path)
	if err != nil {
		return err
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
	return extract(r, dir, st.Name, name)
}

// extract unpacks a tar below dir, with its top entry renamed. It goes through
// os.Root, so that nothing in the archive can reach outside of dir.
func extract(r io.Reader, dir, top, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(filepath.Clean("/"+h.Name), "/"), top)
		if err := extractEntry(root, tr, h, filepath.Join(name, rel), top, name); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func extractEntry(root *os.Root, r io.Reader, h *tar.Header, path, top, name string) error {
	mode := os.FileMode(h.Mode) & os.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		if path == "." {
			return nil
		}
		if err := root.MkdirAll(path, mode|0o700); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := root.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return root.Symlink(h.Linkname, path)
	case tar.TypeLink:
		rel := strings.TrimPrefix(strings.TrimPrefix(filepath.Clean("/"+h.Linkname), "/"), top)
		return root.Link(filepath.Join(name, rel), path)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	default:
		return nil // devices and sockets stay in the container
	}
	return root.Chtimes(path, time.Time{}, h.ModTime)
}

func (a *app) copyIn(ctx context.Context, src, service string, index int, path string) error {
	c, ct, err := a.oneContainer(ctx, service, index, true)
	if err != nil {
		return err
	}
	if src == "-" {
		return c.CopyTo(ctx, ct.ID, path, a.in, false)
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
		return err
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(pw, src, name)
		pw.CloseWithError(err)
		packed <- err
	}()
	err = c.CopyTo(ctx, ct.ID, dir, pr, true)
	pr.CloseWithError(err) // ends pack when the daemon did not read all
	if perr := <-packed; perr != nil && err == nil {
		return perr
	}
	return err
}

// pack writes src as a tar whose top entry is called name.
func pack(w io.Writer, src, name string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(src, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && p == src { // follow the top one, as cp does
			fi, err = os.Stat(p)
		}
		if err != nil {
			return err
		}
		link := ""
		if fi.Mode()&os.ModeSymlink != 0 {
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(fi, link)
		if err != nil {
			return nil //nolint:nilerr // a socket cannot be copied
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		h.Name = filepath.ToSlash(filepath.Join(name, rel))
		if fi.IsDir() {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
	if err != nil {
		return err
	}
	return tw.Close()
}
