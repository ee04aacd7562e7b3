package oci

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testCase is one file of testdata: what comes in, and what came out when it
// was last looked at. The seccomp profile is shown by its length only.
type testCase struct {
	Spec      stack.ContainerSpec `json:"spec"`
	Image     runtime.ImageConfig `json:"image"`
	NetNS     string              `json:"netNS,omitempty"`
	CgroupV2  bool                `json:"cgroupV2,omitempty"`
	SwapLimit bool                `json:"swapLimit,omitempty"`
	Mounts    []Mount             `json:"mounts,omitempty"`

	Error    string      `json:"error,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Want     *specs.Spec `json:"want,omitempty"`
	Seccomp  string      `json:"seccomp,omitempty"`
}

func facts(v2, swap bool) Facts {
	caps := append(slices.Clone(defaultCaps), "CAP_NET_ADMIN", "CAP_SYS_ADMIN")
	return Facts{CgroupV2: v2, Caps: caps, Rlimits: map[string]Rlimit{"nofile": {1024, 4096}}, SwapLimit: swap, BlkioWeight: v2}
}

func TestSpecGolden(t *testing.T) {
	rootfs := t.TempDir()
	writeFile(t, rootfs, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
	writeFile(t, rootfs, "etc/group", "root:x:0:\nweb:x:34:\nlogs:x:40:web\naudio:x:63:\n")
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var tc testCase
			if err := json.Unmarshal(data, &tc); err != nil {
				t.Fatal(err)
			}
			got := tc
			got.fill(rootfs)
			text, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, '\n')
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(data), string(text)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func (tc *testCase) fill(rootfs string) {
	tc.Error, tc.Warnings, tc.Want, tc.Seccomp = "", nil, nil, ""
	s, warnings, err := Spec(Input{
		ID: "c1", Spec: tc.Spec, Image: tc.Image, Rootfs: rootfs, Hostname: "c1", Mounts: tc.Mounts, NetNS: tc.NetNS,
		CgroupPath: "/dhow-test/c1", InitPath: "/usr/bin/tini-static", Facts: facts(tc.CgroupV2, tc.SwapLimit),
	})
	if err != nil {
		tc.Error = err.Error()
		return
	}
	s.Root.Path = "ROOTFS"
	tc.Seccomp = "none"
	if p := s.Linux.Seccomp; p != nil {
		tc.Seccomp = "default"
		if len(p.Syscalls) < 10 {
			data, _ := json.Marshal(p)
			tc.Seccomp = string(data)
		}
		s.Linux.Seccomp = nil
	}
	tc.Want, tc.Warnings = s, warnings
}

func writeFile(t *testing.T, root, name, text string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUserLinksStayInside(t *testing.T) {
	rootfs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(rootfs, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../etc/passwd", filepath.Join(rootfs, "etc", "group")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, rootfs, "real/passwd", "inside:x:7:7::/:/bin/sh\n")
	if err := os.Symlink("/real/passwd", filepath.Join(rootfs, "etc", "passwd")); err != nil {
		t.Fatal(err)
	}
	u, _, err := lookupUser(rootfs, "inside", nil)
	if err != nil || u.UID != 7 {
		t.Fatalf("%+v %v", u, err)
	}
	if _, _, err := lookupUser(rootfs, "daemon", nil); !errors.Is(err, runtime.ErrInvalid) {
		t.Fatalf("a user of the host was found: %v", err)
	}
}

func TestUlimitsAreNeverRaisedAboveTheHardLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := stack.Ulimit{Name: "nofile", Soft: rapid.Int64Range(-1, 10000).Draw(t, "soft"), Hard: rapid.Int64Range(-1, 10000).Draw(t, "hard")}
		b := &builder{s: base(), in: Input{Spec: stack.ContainerSpec{Ulimits: []stack.Ulimit{u}}, Facts: facts(false, false)}}
		err := b.rlimits()
		if limit(u.Soft) > limit(u.Hard) {
			if !errors.Is(err, runtime.ErrInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		r := b.s.Process.Rlimits[0]
		if err != nil || r.Hard > 4096 || r.Soft > r.Hard {
			t.Fatalf("%+v %v", r, err)
		}
		if (limit(u.Hard) > 4096) != (len(b.warnings) == 1) {
			t.Fatalf("warnings %v", b.warnings)
		}
	})
	if limit(-1) != math.MaxUint64 {
		t.Fatal("-1 is unlimited")
	}
}

func TestMergeEnv(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) string {
		key := rapid.SampledFrom([]string{"A", "B", "AB", "C"}).Draw(t, "key")
		if rapid.Bool().Draw(t, "remove") {
			return key
		}
		return key + "=" + rapid.StringMatching(`[a-z=]{0,3}`).Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		base, over := rapid.SliceOfN(entry, 0, 4).Draw(t, "base"), rapid.SliceOfN(entry, 0, 6).Draw(t, "over")
		got := mergeEnv(mergeEnv(nil, base), over)
		want := map[string]string{}
		for _, kv := range slices.Concat(base, over) {
			k, v, ok := strings.Cut(kv, "=")
			if delete(want, k); ok {
				want[k] = v
			}
		}
		have := map[string]string{}
		for _, kv := range got {
			k, v, _ := strings.Cut(kv, "=")
			if _, twice := have[k]; twice {
				t.Fatalf("%s is there twice: %v", k, got)
			}
			have[k] = v
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Fatal(d)
		}
	})
}

func TestDeviceRules(t *testing.T) {
	for rule, ok := range map[string]bool{"c 1:3 rwm": true, "b *:* m": true, "a 1:* r": true, "c 1:3": false, "x 1:3 r": false, "c 1:3 q": false, "c 99999999999:1 r": false} {
		if _, err := parseDeviceRule(rule); (err == nil) != ok {
			t.Errorf("%q: %v", rule, err)
		}
	}
}

func TestExecKeepsTheContainersProcess(t *testing.T) {
	rootfs := t.TempDir()
	writeFile(t, rootfs, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
	c := stack.ContainerSpec{User: "web", Command: []string{"serve"}, Env: []string{"A=1"}, WorkingDir: "/srv"}
	f := facts(true, true)
	s, _, err := Spec(Input{Spec: c, Rootfs: rootfs, Hostname: "h", Facts: f})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Exec(s, c, rootfs, runtime.ExecSpec{Args: []string{"sh"}, User: "root", TTY: true, Env: []string{"B=2"}}, f)
	if err != nil {
		t.Fatal(err)
	}
	if p.User.UID != 0 || p.Cwd != "/srv" || !slices.Contains(p.Env, "A=1") || !slices.Contains(p.Env, "B=2") ||
		!slices.Contains(p.Env, "TERM=xterm") || !slices.Contains(p.Env, "HOME=/root") || len(p.Capabilities.Effective) != len(defaultCaps) {
		t.Errorf("%+v %v", p, p.Env)
	}
	if s.Process.Args[0] != "serve" || slices.Contains(s.Process.Env, "B=2") || s.Process.User.UID != 33 {
		t.Error("the container's own process was changed")
	}
	p, err = Exec(s, c, rootfs, runtime.ExecSpec{Args: []string{"sh"}, User: "0", Privileged: true}, f)
	if err != nil || len(p.Capabilities.Effective) != len(f.Caps) {
		t.Errorf("%+v %v", p.Capabilities, err)
	}
}
