package engine_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// flaky is a runtime whose next deletions fail, as they do on a machine under
// pressure. It returns its path and a function that says how many.
func (n *node) flaky() (path string, fail func(times int)) {
	n.Helper()
	runc, err := exec.LookPath("runc")
	n.ok(err)
	dir := filepath.Join(n.dir, "bin") // there until everything has been removed
	n.ok(os.MkdirAll(dir, 0o755))
	path = filepath.Join(dir, "runc-flaky")
	script := fmt.Sprintf(`#!/bin/sh
for a in "$@"; do
	if [ "$a" = delete ]; then
		for f in %[1]s/fail-*; do
			[ -e "$f" ] && rm "$f" && echo "the disk is slow" >&2 && exit 1
		done
	fi
done
exec %[2]s "$@"
`, dir, runc)
	n.ok(os.WriteFile(path, []byte(script), 0o755))
	return path, func(times int) {
		for i := range times {
			n.ok(os.WriteFile(filepath.Join(dir, fmt.Sprintf("fail-%d", i)), nil, 0o600))
		}
	}
}

func (n *node) known(id string) bool {
	_, err := os.Stat(filepath.Join(n.dir, "run", "runc", id))
	return err == nil
}

// What the shim's runtime could not delete is deleted later: the container can
// be started again, whether the first, the second or the third attempt helps.
func TestStartAfterAFailedDelete(t *testing.T) {
	for times := 1; times <= 2; times++ {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			n := newNode(t)
			path, fail := n.flaky()
			id := n.create("again", stack.ContainerSpec{Command: []string{"true"}, Runtime: path})
			fail(times)
			for range 2 {
				n.ok(n.Start(n.ctx(), id))
				if code := n.exit(id); code != 0 {
					t.Errorf("exit code %d", code)
				}
			}
		})
	}
}

// The same across a daemon that was ended in between, with and without a
// record, bundle or process.
func TestOpenSweepsTheRuntimesState(t *testing.T) {
	n := newNode(t)
	path, fail := n.flaky()
	spec := stack.ContainerSpec{Command: []string{"true"}, Runtime: path}
	kept, lost := n.create("kept", spec), n.create("lost", spec)
	runs := n.start("runs", stack.ContainerSpec{Command: []string{"sleep", "1000"}, Runtime: path})
	for _, id := range []string{kept, lost} {
		fail(2)
		n.ok(n.Start(n.ctx(), id))
		n.exit(id)
		n.ok(n.Update(n.ctx(), id, stack.Resources{}, nil)) // waits for the clean-up
	}
	n.stop()
	if !n.known(kept) || !n.known(lost) {
		t.Fatal("the deletions did not fail")
	}
	n.ok(os.RemoveAll(filepath.Join(n.dir, "data", "engine", "containers", lost)))
	for _, id := range []string{kept, lost} {
		n.ok(os.RemoveAll(filepath.Join(n.dir, "run", "c", id[:16])))
	}
	n.open()
	if n.known(kept) || n.known(lost) || !n.known(runs) {
		t.Errorf("the runtime knows kept: %v, lost: %v, runs: %v", n.known(kept), n.known(lost), n.known(runs))
	}
	if c := n.inspect(runs); c.State.Status != runtime.Running {
		t.Errorf("%+v", c.State)
	}
	n.ok(n.Start(n.ctx(), kept))
	n.exit(kept)
}
