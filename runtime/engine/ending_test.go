package engine_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// archiveOf is a tar archive with one file.
func (n *node) archiveOf(name, text string) io.Reader {
	n.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	n.ok(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}))
	_, err := io.WriteString(w, text)
	n.ok(err)
	n.ok(w.Close())
	return &b
}

// A container that is being removed is not mounted again for a copy.
func TestCopyIntoARemoval(t *testing.T) {
	n := newNode(t)
	id := n.create("going", stack.ContainerSpec{Command: []string{"true"}, Mounts: []stack.Mount{{Type: stack.MountVolume, Target: "/data"}}})
	taker := n.create("taker", stack.ContainerSpec{Command: []string{"true"}, VolumesFrom: []string{"going"}})
	n.ok(os.Mkdir(filepath.Join(n.dir, "run", "c", id[:16]), 0o700)) // makes the removal ask the network
	begun, gate := make(chan struct{}), make(chan struct{})
	tell := sync.OnceFunc(func() { close(begun) })
	n.net.first = func() { tell(); <-gate }
	removed := make(chan error, 1)
	go func() { removed <- n.Remove(n.ctx(), id, runtime.RemoveOptions{}) }()
	<-begun
	errs, taken := make(chan error, 2), make(chan error, 1)
	go func() { errs <- n.CopyTo(n.ctx(), id, "/", n.archiveOf("a", "b"), false) }()
	go func() { _, err := n.StatPath(n.ctx(), id, "/"); errs <- err }()
	go func() { taken <- n.Start(n.ctx(), taker) }()
	for range 2 {
		if err := <-errs; !errors.Is(err, runtime.ErrConflict) {
			t.Errorf("while it is being removed: %v", err)
		}
	}
	close(gate)
	n.ok(<-removed)
	if err := <-taken; !errors.Is(err, runtime.ErrConflict) && !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a start that takes its volumes: %v", err)
	}
}

// The same from both sides at once: either is first.
func TestCopyAndRemoveAtOnce(t *testing.T) {
	n := newNode(t)
	for range 20 {
		id := n.create("", stack.ContainerSpec{Command: []string{"true"}, Mounts: []stack.Mount{{Type: stack.MountVolume, Target: "/data"}}})
		var g sync.WaitGroup
		for range 4 {
			archive := n.archiveOf("a", "b")
			g.Go(func() {
				err := n.CopyTo(n.ctx(), id, "/", archive, false)
				if err != nil && !errors.Is(err, runtime.ErrNotFound) && !errors.Is(err, runtime.ErrConflict) {
					t.Error(err)
				}
			})
		}
		g.Go(func() { n.ok(n.Remove(n.ctx(), id, runtime.RemoveOptions{Volumes: true})) })
		g.Wait()
		n.leftovers()
		if left, _ := os.ReadDir(filepath.Join(n.dir, "images", "rootfs")); len(left) > 0 {
			t.Fatalf("layers left: %v", left)
		}
	}
}

// Its process is gone but nobody has taken note yet: its number may be
// another's, so the files are those of the stopped container.
func TestCopyIntoAnEnd(t *testing.T) {
	n := newNode(t)
	id := n.start("ending", stack.ContainerSpec{Command: []string{"sleep", "1000"}, Networks: []stack.Attachment{{Network: "front"}}})
	begun, gate := make(chan struct{}), make(chan struct{})
	n.net.later = func() { close(begun); <-gate }
	connected := make(chan error, 1)
	go func() { connected <- n.ConnectNetwork(n.ctx(), id, stack.Attachment{Network: "back"}) }()
	<-begun // from here on the end cannot be handled
	n.ok(syscall.Kill(n.inspect(id).State.Pid, syscall.SIGKILL))
	n.eventually("exit.json", func() bool {
		_, err := os.Stat(filepath.Join(n.dir, "run", "c", id[:16], "exit.json"))
		return err == nil
	})
	copied := make(chan error, 1)
	go func() { copied <- n.CopyTo(n.ctx(), id, "/", n.archiveOf("note", "late"), false) }()
	joined := n.create("joins", stack.ContainerSpec{Command: []string{"true"}, NetworkMode: "container:" + id})
	if err := n.Start(n.ctx(), joined); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("joining what has ended: %v", err)
	}
	close(gate)
	n.ok(<-connected)
	n.ok(<-copied)
	r, _, err := n.CopyFrom(n.ctx(), id, "/note")
	n.ok(err)
	defer func() { _ = r.Close() }()
	tr := tar.NewReader(r)
	_, err = tr.Next()
	n.ok(err)
	if b, err := io.ReadAll(tr); string(b) != "late" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}
