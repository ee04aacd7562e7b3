package netlab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupsOfAKilledDaemonAreRemoved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root (cgroups)")
	}
	parent := "/sys/fs/cgroup"
	if _, err := os.Stat(parent + "/memory"); err == nil {
		parent += "/memory" // v1
	}
	h := &Host{DataDir: t.TempDir()}
	instance := filepath.Join(h.DataDir, "engine", "instance")
	if err := os.Mkdir(filepath.Dir(instance), 0o700); err != nil {
		t.Fatal(err)
	}
	marks := []string{"nlt-0001", "nlt-0002"}
	for _, mark := range marks { // a second one, as after the first file was damaged
		if err := os.WriteFile(instance, []byte(mark+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.remember()
		h.remember()
		if err := os.MkdirAll(filepath.Join(parent, "dhow-"+mark, "container", "init"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(parent, "dhow-nlt-0003")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropGroup(other) })
	h.dropCgroups()
	for _, mark := range marks {
		if left := groupsOf(mark); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("the group of another host: %v", err)
	}
}
