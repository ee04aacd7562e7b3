package fsx

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// TempSuffix ends the name under which WriteFile writes first. A killed writer
// leaves that file; the next one takes it over.
const TempSuffix = ".tmp"

// WriteFile replaces path by a file with data, in one rename. sync makes it
// durable; without it the file survives a killed process, not a power cut.
// Calls for one path must not overlap.
func WriteFile(path string, data []byte, sync bool) error {
	tmp := path + TempSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if sync {
		return SyncDir(filepath.Dir(path))
	}
	return nil
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// SyncFS writes back the whole file system that holds dir: cheaper than one
// fsync per file after a large tree was written.
func SyncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
