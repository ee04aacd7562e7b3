package link

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumps bounds how often a list is asked for. Each takes less than a
// millisecond, so that even a host that starts containers all the time leaves
// one alone soon.
const dumps = 100

// whole repeats a listing until no change came in between: the kernel marks
// lists that may miss entries for that reason.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumps {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}
