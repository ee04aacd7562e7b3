package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
)

// pack writes src as a tar whose top entry is called name. skipped is called
// with the paths of what an archive cannot hold.
func pack(w io.Writer, src, name string, skipped func(path string)) error {
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
		if fi.Mode()&os.ModeSocket != 0 {
			skipped(p)
			return nil
		}
		link := ""
		if fi.Mode()&os.ModeSymlink != 0 {
			if link, err = os.Readlink(p); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(fi, link)
		if err != nil {
			return err
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
