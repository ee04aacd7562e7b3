package engine_test

import (
	"errors"
	"testing"

	"github.com/dhow-project/dhow/runtime"
)

// Execs that nobody starts are forgotten: the oldest when there are too many,
// all when the container ends.
func TestExecsThatAreNeverStarted(t *testing.T) {
	n := newNode(t)
	id := n.start("execs", sh("sleep 1000"))
	var ids []string
	for range 300 {
		x, err := n.ExecCreate(n.ctx(), id, runtime.ExecSpec{Args: []string{"true"}})
		n.ok(err)
		ids = append(ids, x)
	}
	known := func() (count int) {
		for _, x := range ids {
			if _, err := n.ExecInspect(n.ctx(), x); err == nil {
				count++
			} else if !errors.Is(err, runtime.ErrNotFound) {
				t.Error(err)
			}
		}
		return count
	}
	if got := known(); got != 256 {
		t.Errorf("%d are remembered", got)
	}
	if _, err := n.ExecInspect(n.ctx(), ids[len(ids)-1]); err != nil {
		t.Errorf("the last one: %v", err)
	}
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	if got := known(); got != 0 {
		t.Errorf("after the end %d are remembered", got)
	}
}
