package cluster

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// confidential is a stack whose one container, on a node of that name, has a secret.
const confidential = `
name: vault
services:
  app:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_signal: SIGKILL
    secrets: [key]
    deploy:
      placement: {constraints: ["node.hostname == %s"]}
secrets:
  key: {file: ./key}
`

func TestSecretsAreOnlyWhereTheyAreUsed(t *testing.T) {
	c := New(t, "a secret is in clear only on the node that runs its user, and on no disk; every leader can hand it out", 3, 0, "busybox:latest")
	const first, second = "needle-in-a-cluster-4717", "needle-in-a-cluster-4718"
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(c.Dir, "key"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leader := c.Leader(c.Hosts[0])
	others := c.Others(leader)
	user, stranger := others[0], others[1]
	c.Compose(fmt.Sprintf(confidential, user.Name))
	has := func(want string) {
		t.Helper()
		netlab.Eventually(c, 20*time.Second, "the container has the content", func() error {
			r := c.Try(user, "exec", "-T", "app", "cat", "/run/secrets/key")
			if r.Stdout != want {
				return fmt.Errorf("%q %s", r.Stdout, r.Stderr)
			}
			return nil
		})
	}
	nowhere := func() {
		t.Helper()
		for _, h := range c.Hosts {
			hits, err := netlab.Grep(h.DataDir, first, second)
			if err != nil || len(hits) > 0 {
				t.Errorf("%s: a secret is in %v: %v", h.Name, hits, err)
			}
		}
	}
	c.Step("up, rotated, and back again", func() {
		write(first)
		c.Run(leader, "up", "-d", "--wait")
		has(first)
		write(second)
		c.Run(leader, "up", "-d", "--wait")
		has(second)
		c.Run(stranger, "rollback", "--wait")
		has(first)
	})
	c.Step("no disk has it, and no memory of who has nothing to do with it", func() {
		nowhere()
		for h, want := range map[*netlab.Host]bool{user: true, stranger: false} {
			if got, err := h.Remembers(first, second); err != nil || got != want {
				t.Errorf("the daemon of %s has a secret in memory: %v, want %v (%v)", h.Name, got, want, err)
			}
		}
	})
	c.Step("an archive of the state has it sealed", func() {
		path := filepath.Join(c.Dir, "state.snap")
		c.Run(stranger, "swarm", "snapshot", "save", path)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, packed, _ := bytes.Cut(data, []byte("\x28\xb5\x2f\xfd")) // what begins a zstd frame
		if err := os.WriteFile(path, append([]byte("\x28\xb5\x2f\xfd"), packed...), 0o600); err != nil {
			t.Fatal(err)
		}
		state, err := exec.Command("zstd", "-dc", path).Output()
		if err != nil || !bytes.Contains(state, []byte(`"vault_key"`)) {
			t.Fatalf("not a state: %v, %d bytes", err, len(state))
		}
		for _, text := range []string{first, second} {
			if bytes.Contains(state, []byte(text)) || bytes.Contains(state, []byte(base64.StdEncoding.EncodeToString([]byte(text)))) {
				t.Error("a secret is in the archive in clear")
			}
		}
		nowhere()
	})
	c.Step("another leader hands it out", func() {
		leader.Kill()
		netlab.Eventually(c, 20*time.Second, "another one leads", func() error {
			if now := c.Leader(user); now == leader {
				return fmt.Errorf("%s leads still", now.Name)
			}
			return nil
		})
		c.Run(stranger, "rollback", "vault", "--wait")
		has(second)
		leader.Start()
	})
	c.Step("down leaves nothing of it", func() {
		c.Run(stranger, "down")
		c.Runs(20*time.Second, "vault", "app", 0)
		nowhere()
	})
}
