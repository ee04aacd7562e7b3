package netlab

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Grep lists the files under dir that hold one of the texts, as it is or as JSON
// has bytes. Mounts below it, that is what containers see, are left out.
func Grep(dir string, texts ...string) (hits []string, err error) {
	var top syscall.Stat_t
	if err := syscall.Stat(dir, &top); err != nil {
		return nil, fmt.Errorf("search %s: %w", dir, err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		var st syscall.Stat_t
		if err != nil || syscall.Lstat(path, &st) != nil {
			return err
		}
		if d.IsDir() && st.Dev != top.Dev {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if holds(data, texts) {
			hits = append(hits, path)
		}
		return err
	})
	if err != nil {
		return hits, fmt.Errorf("search %s: %w", dir, err)
	}
	return hits, nil
}

func holds(data []byte, texts []string) bool {
	for _, text := range texts {
		if bytes.Contains(data, []byte(text)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(text)))) {
			return true
		}
	}
	return false
}

// Remembers reports whether the memory of a host's daemon holds one of the texts.
func (h *Host) Remembers(texts ...string) (bool, error) {
	pid := h.Pid()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false, err
	}
	defer maps.Close() //nolint:errcheck // it is only read
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return false, err
	}
	defer mem.Close() //nolint:errcheck // it is only read
	read := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return false, err
		}
		if !strings.HasPrefix(mode, "rw") || from > math.MaxInt64 {
			continue
		}
		data := make([]byte, to-from)
		n, err := mem.ReadAt(data, int64(from))
		if err != nil && n == 0 {
			continue // not memory, or gone meanwhile
		}
		read += n
		if holds(data[:n], texts) {
			return true, nil
		}
	}
	if read < 1<<20 {
		return false, fmt.Errorf("only %d bytes of process %d could be read", read, pid)
	}
	return false, nil
}
