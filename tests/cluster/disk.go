package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// mountSmall mounts a file system of so many bytes; it goes when the test is over.
func (c *C) mountSmall(dir string, size int64) {
	c.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			c.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// fill fills a file system to its end and returns the file that does.
func (c *C) fill(dir string) string {
	c.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			c.Fatal(err)
		}
	}
	return f.Name()
}

func (c *C) remove(path string) {
	c.Helper()
	if err := os.Remove(path); err != nil {
		c.Fatal(err)
	}
}
