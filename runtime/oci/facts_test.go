package oci

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSwapInV2 on trees as real machines have them.
func TestSwapInV2(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files []string // of the hierarchy
		own   string
		swaps bool // the kernel has swap
		want  bool
	}{
		{"a unit of systemd", []string{"system.slice/memory.swap.max", "system.slice/dhow.service/memory.swap.max"}, "0::/system.slice/dhow.service", true, true},
		{"a leaf without the controller", []string{"user.slice/memory.swap.max"}, "0::/user.slice/session-1.scope", true, true},
		{"the root of a machine with systemd", []string{"init.scope/memory.max", "init.scope/memory.swap.max"}, "0::/", true, true},
		{"no accounting of swap", []string{"init.scope/memory.max"}, "0::/", true, false},
		{"nothing is there yet", nil, "0::/", true, true},
		{"nothing is there yet, no swap", nil, "0::/", false, false},
		{"hybrid names before", []string{"a/memory.swap.max"}, "4:memory:/x\n0::/a", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tc.files {
				writeFile(t, dir, "cgroup/"+f, "max\n")
			}
			writeFile(t, dir, "self", tc.own+"\n")
			swaps := filepath.Join(dir, "swaps")
			if tc.swaps {
				if err := os.WriteFile(swaps, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := swapInV2(filepath.Join(dir, "cgroup"), filepath.Join(dir, "self"), swaps); got != tc.want {
				t.Errorf("%v", got)
			}
		})
	}
}
