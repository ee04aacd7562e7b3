package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestADetachedDaemonGetsTheSamePaths(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var f daemonFlags
	fl := daemonFlagSet(&f)
	err = fl.Parse([]string{"-d", "--data-dir", "d", "--run-dir=./r", "--shim", "../shim", "--certs-dir", "c1", "--certs-dir=/c2,x",
		"--runtime", "mine=bin/mine", "--runtime", "crun=crun", "--mirror", "docker.io=https://m?a=b,c", "--log-level=debug",
		"--label", "zone=east", "--label=disk=ssd", "--generic-resource", "gpu=2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.absolute(); err != nil {
		t.Fatal(err)
	}
	got := f.again(fl)
	want := []string{"daemon", "--certs-dir=" + dir + "/c1", "--certs-dir=/c2,x", "--data-dir=" + dir + "/d",
		"--generic-resource=gpu=2", "--label=disk=ssd", "--label=zone=east", "--log-level=debug",
		"--mirror=docker.io=https://m?a=b,c", "--run-dir=" + dir + "/r", "--runtime=crun=crun", "--runtime=mine=" + dir + "/bin/mine",
		"--shim=" + filepath.Dir(dir) + "/shim"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	t.Chdir("/")
	var again daemonFlags
	fl = daemonFlagSet(&again)
	if err := fl.Parse(got[1:]); err != nil {
		t.Fatal(err)
	}
	if a, b := again.again(fl), got; len(a) != len(b) || again.detach || again.runtimes["mine"] != dir+"/bin/mine" {
		t.Errorf("parsed again: %q, detach %v", a, again.detach)
	}
}

func TestLogsArePutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.log")
	size := func(path string) int64 {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	open := func() {
		t.Helper()
		f, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open()
	open()
	if got := size(path); got != 10 {
		t.Fatalf("a short log has %d bytes after two starts, want 10", got)
	}
	for range 2 { // the second time there is one that was put aside
		if err := os.Truncate(path, maxLog+1); err != nil {
			t.Fatal(err)
		}
		open()
		if now, before := size(path), size(path+".1"); now != 5 || before != maxLog+1 {
			t.Errorf("the log has %d bytes and the one before it %d", now, before)
		}
	}
}

func TestLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for content, want := range map[string]string{
		"": "", "one": "one", "one\ntwo\n": "two", strings.Repeat("x\n", 1<<20) + "last\n": "last",
		strings.Repeat("y", 1<<20): strings.Repeat("y", 4<<10),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(path); got != want {
			t.Errorf("%.20q: %.20q, want %.20q", content, got, want)
		}
	}
}
