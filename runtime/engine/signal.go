package engine

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/dhow-project/dhow/runtime"
	"golang.org/x/sys/unix"
)

// parseSignal reads "TERM", "SIGTERM", "15" or "RTMIN+3"; "" is SIGTERM.
func parseSignal(text string) (syscall.Signal, error) {
	if text == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return s, nil
	}
	const rtmin, rtmax = 34, 64 // as glibc numbers them
	for prefix, base := range map[string]int{"RTMIN": rtmin, "RTMAX": rtmax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if n := base + offset; n >= rtmin && n <= rtmax {
			return syscall.Signal(n), nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q: %w", text, runtime.ErrInvalid)
}
