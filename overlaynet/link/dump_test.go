package link

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestListIsRepeatedUntilItIsWhole(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		interrupted int
		last, want  error
		calls       int
	}{
		{0, nil, nil, 1}, {3, nil, nil, 4}, {2, other, other, 3}, {dumps, nil, netlink.ErrDumpInterrupted, dumps},
	} {
		calls := 0
		got, err := whole(func() ([]int, error) {
			calls++
			if calls <= c.interrupted {
				return []int{0}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
			}
			return []int{calls}, c.last
		})
		if !errors.Is(err, c.want) || calls != c.calls || err == nil && got[0] != c.calls {
			t.Errorf("%d interrupted: %v, error %v after %d calls; want error %v after %d", c.interrupted, got, err, calls, c.want, c.calls)
		}
	}
}
