package daemon

import (
	"os"
	"path/filepath"
)

// makePrivate makes what holds file systems of containers reachable for root
// alone, also when an older daemon left it open. A container's root can make
// setuid files there; a user of the host who could reach one would be root by
// running it. The run directory itself stays passable: the socket lies in it.
func (c Config) makePrivate() error {
	for _, dir := range []string{
		filepath.Join(c.DataDir, "images"), filepath.Join(c.DataDir, "engine"), filepath.Join(c.DataDir, "volumes"),
		filepath.Join(c.RunDir, "c"), filepath.Join(c.RunDir, "runc"), filepath.Join(c.RunDir, "netns"), filepath.Join(c.RunDir, "volumes"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // root has to pass
			return err
		}
	}
	return nil
}
