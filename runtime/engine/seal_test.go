package engine_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/engine"
	"github.com/dhow-project/dhow/stack"
)

// With another key the content of secrets cannot be had: the container is not
// started with something else, and with the right key again all is well.
func TestSecretsOfAnotherKey(t *testing.T) {
	n := newNode(t)
	spec := sh("cat /run/secrets/word; cat /conf")
	spec.Secrets = []stack.FileRef{{Source: "word", Target: "/run/secrets/word", Data: []byte("swordfish")}}
	spec.Configs = []stack.FileRef{{Source: "conf", Target: "/conf", Data: []byte("-and-more")}}
	id := n.create("sealed", spec)
	plain := n.create("plain", sh("true"))
	n.stop()
	path := filepath.Join(n.dir, "data", "engine", "container-key")
	key, err := os.ReadFile(path)
	n.ok(err)
	other := make([]byte, len(key))
	rand.Read(other)
	n.ok(os.WriteFile(path, other, 0o600))
	n.open()
	if err := n.Start(n.ctx(), id); err == nil || !strings.Contains(err.Error(), "container-key") {
		t.Errorf("start with another key: %v; it saw %q", err, n.log(id))
	}
	if err := n.Rename(n.ctx(), id, "renamed"); err == nil { // would write what is not known
		t.Error("the record was written without its secrets")
	}
	n.ok(n.Start(n.ctx(), plain))
	n.stop()
	n.ok(os.WriteFile(path, key, 0o600))
	n.open()
	n.ok(n.Start(n.ctx(), id))
	n.exit(id)
	if got := n.log(id); got != "swordfish-and-more" {
		t.Errorf("with the key back: %q", got)
	}
}

// A key that is missing is not replaced while something was sealed with it.
func TestMissingKey(t *testing.T) {
	n := newNode(t)
	plain := n.create("plain", sh("true"))
	n.stop()
	path := filepath.Join(n.dir, "data", "engine", "container-key")
	n.ok(os.Remove(path))
	n.open() // nothing was sealed
	spec := sh("true")
	spec.Secrets = []stack.FileRef{{Source: "word", Target: "/run/secrets/word", Data: []byte("swordfish")}}
	n.create("sealed", spec)
	n.ok(n.Remove(n.ctx(), plain, runtime.RemoveOptions{}))
	n.stop()
	key, err := os.ReadFile(path)
	n.ok(err)
	n.ok(os.Remove(path))
	_, err = engine.Open(engine.Config{
		DataDir: filepath.Join(n.dir, "data", "engine"), RunDir: filepath.Join(n.dir, "run"), Shim: shimBinary,
		Images: n.images, Networks: n.net, Volumes: n.volumes,
	})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("opened without the key: %v", err)
	}
	if now, err := os.ReadFile(path); err == nil && !bytes.Equal(now, key) {
		t.Error("another key was made")
	}
	n.ok(os.WriteFile(path, key, 0o600))
	n.open()
}
