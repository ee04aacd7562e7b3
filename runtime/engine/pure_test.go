package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestDecideRestart(t *testing.T) {
	now := time.Unix(10_000, 0)
	ran := func(d time.Duration, code int) state {
		return state{State: runtime.State{StartedAt: now.Add(-d), FinishedAt: now, ExitCode: code}}
	}
	byHand := ran(time.Second, 1)
	byHand.ManuallyStopped = true
	slow := ran(time.Second, 1)
	slow.Delay = 40 * time.Second
	lasted := ran(11*time.Second, 1)
	lasted.Delay = 40 * time.Second
	tried := ran(time.Second, 1)
	tried.Attempts = []time.Time{now.Add(-time.Hour), now.Add(-time.Minute)}
	for name, tc := range map[string]struct {
		p     stack.RestartPolicy
		st    state
		again bool
		delay time.Duration
	}{
		"none":                              {stack.RestartPolicy{}, ran(1, 1), false, 0},
		"no":                                {stack.RestartPolicy{Condition: "no"}, ran(1, 1), false, 0},
		"success":                           {stack.RestartPolicy{Condition: "on-failure"}, ran(1, 0), false, 0},
		"failure":                           {stack.RestartPolicy{Condition: "on-failure"}, ran(1, 1), true, firstDelay},
		"always":                            {stack.RestartPolicy{Condition: "always"}, ran(1, 0), true, firstDelay},
		"own delay":                         {stack.RestartPolicy{Condition: "always", Delay: time.Second}, ran(1, 0), true, time.Second},
		"stopped by hand":                   {stack.RestartPolicy{Condition: "always"}, byHand, false, 0},
		"longest delay":                     {stack.RestartPolicy{Condition: "always"}, slow, true, longestDelay},
		"starts over":                       {stack.RestartPolicy{Condition: "always"}, lasted, true, firstDelay},
		"too often":                         {stack.RestartPolicy{Condition: "always", MaxAttempts: 2}, tried, false, 0},
		"unhealthy, asked for":              {stack.RestartPolicy{Unhealthy: true}, state{State: runtime.State{ExitCode: 137}, Unhealthy: true}, true, firstDelay},
		"crashed, asked for unhealthy only": {stack.RestartPolicy{Unhealthy: true}, state{State: runtime.State{ExitCode: 137}}, false, 0},
		"not within the window":             {stack.RestartPolicy{Condition: "always", MaxAttempts: 2, Window: 10 * time.Minute}, tried, true, firstDelay},
		"within the window":                 {stack.RestartPolicy{Condition: "always", MaxAttempts: 1, Window: 10 * time.Minute}, tried, false, 0},
	} {
		if again, delay := decideRestart(tc.p, tc.st, now); again != tc.again || delay != tc.delay {
			t.Errorf("%s: %v %v, want %v %v", name, again, delay, tc.again, tc.delay)
		}
	}
}

func TestRestartDelaysGrowToTheLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := stack.RestartPolicy{Condition: "always", Delay: time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "delay"))}
		st := state{}
		last := time.Duration(0)
		for range 15 {
			again, delay := decideRestart(p, st, time.Unix(0, 0))
			if !again || delay < last || delay > max(longestDelay, p.Delay) {
				t.Fatalf("%v after %v", delay, last)
			}
			last, st.Delay = delay, delay
		}
	})
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"": unix.SIGTERM, "TERM": unix.SIGTERM, "sigkill": unix.SIGKILL, "15": unix.SIGTERM, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63,
	} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"NOPE", "0", "-1", "65", "RTMIN+99", "RTMINx"} {
		if got, err := parseSignal(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// A view of a stopped container must not change what the process itself sees:
// its first thread stays in the host's mount namespace.
func TestNamespacesAreOfOtherThreads(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: mount namespaces need root")
	}
	before, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var g errgroup.Group
	for range 200 {
		g.Go(func() error { return inNamespace(dir, nil, func(root) error { return nil }) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Readlink("/proc/self/ns/mnt"); after != before {
		t.Errorf("the process's first thread is in %s, not in %s", after, before)
	}
}

// SELinux cannot be had everywhere; the decision can.
func TestLabelsAreRefusedUnderSELinux(t *testing.T) {
	s := stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountBind, Source: "/srv", Target: "/srv", SELinux: "Z"}}}
	if err := checkLabels(s, false); err != nil {
		t.Errorf("without SELinux: %v", err)
	}
	if err := checkLabels(s, true); !errors.Is(err, runtime.ErrInvalid) || !strings.Contains(err.Error(), "/srv") {
		t.Errorf("with SELinux: %v", err)
	}
}

func TestFilterPs(t *testing.T) {
	const out = "UID          PID    PPID  C STIME TTY          TIME CMD\nroot           1       0  0 11:00 ?        00:00:01 /sbin/init  splash\nroot          77       1  0 11:00 ?        00:00:00 sh -c 'a b'\n"
	titles, rows, err := filterPs(out, []int{77})
	if err != nil || len(titles) != 8 || len(rows) != 1 || rows[0][7] != "sh -c 'a b'" || rows[0][1] != "77" {
		t.Errorf("%q %q %v", titles, rows, err)
	}
	if _, _, err := filterPs("COMMAND\nx\n", nil); err == nil {
		t.Error("a table without PID was taken")
	}
}

func TestAttachments(t *testing.T) {
	for name, tc := range map[string]struct {
		spec stack.ContainerSpec
		want []string
	}{
		"plain":            {stack.ContainerSpec{}, []string{"bridge"}},
		"default":          {stack.ContainerSpec{NetworkMode: "default"}, []string{"bridge"}},
		"one by name":      {stack.ContainerSpec{NetworkMode: "front"}, []string{"front"}},
		"service":          {stack.ContainerSpec{Networks: []stack.Attachment{{Network: "a"}, {Network: "b"}}}, []string{"a", "b"}},
		"mode among them":  {stack.ContainerSpec{NetworkMode: "b", Networks: []stack.Attachment{{Network: "a"}, {Network: "b"}}}, []string{"b", "a"}},
		"mode beside them": {stack.ContainerSpec{NetworkMode: "c", Networks: []stack.Attachment{{Network: "a"}}}, []string{"c", "a"}},
	} {
		got := attachments(record{Spec: tc.spec})
		if len(got) != len(tc.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i := range got {
			if got[i].Network != tc.want[i] {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	spec := stack.ContainerSpec{MacAddress: "02:00:00:00:00:01", Networks: []stack.Attachment{{Network: "a"}}}
	if got := attachments(record{Spec: spec}); got[0].MacAddress != spec.MacAddress || spec.Networks[0].MacAddress != "" {
		t.Errorf("%+v %+v", got, spec.Networks)
	}
}

func TestSealedSpecsOpenAgain(t *testing.T) {
	s, err := openSealer(t.TempDir()+"/key", func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	spec := stack.ContainerSpec{Secrets: []stack.FileRef{{Source: "a", Data: []byte("x")}, {Source: "empty", Data: []byte{}}, {Source: "none"}}}
	sealed, err := s.sealSpec(spec)
	if err != nil || string(spec.Secrets[0].Data) != "x" || string(sealed.Secrets[0].Data) == "x" {
		t.Fatalf("%v %q", err, sealed.Secrets[0].Data)
	}
	got, err := s.openSpec(sealed)
	if err != nil || string(got.Secrets[0].Data) != "x" || got.Secrets[1].Data == nil || got.Secrets[2].Data != nil {
		t.Fatalf("%v %+v", err, got.Secrets)
	}
	sealed.Secrets[0].Data[20] ^= 1
	if _, err := s.openSpec(sealed); err == nil {
		t.Fatal("a damaged secret was opened")
	}
}

func TestReadCounters(t *testing.T) {
	var v1, v2 runtime.Stats
	readV1("testdata/cgroup1", "/dhow/c", &v1)
	readV2("testdata/cgroup2/dhow/c", &v2)
	for name, s := range map[string]runtime.Stats{"v1": v1, "v2": v2} {
		if s.CPUNanos != 5_000_000_000 || s.CPUUserNanos != 3_000_000_000 || s.Memory != 1<<20 || s.MemoryLimit != 1<<26 || s.Pids != 3 ||
			s.PidsLimit != 100 || s.BlockRead != 4096 || s.BlockWrite != 8192 || s.Periods != 10 || s.ThrottledPeriods != 2 || s.ThrottledNanos != 7000 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if v1.MemoryStats["cache"] != 5 || v2.MemoryStats["file"] != 5 {
		t.Errorf("%v %v", v1.MemoryStats, v2.MemoryStats)
	}
}

// What could not be synced is not taken for synced.
func TestFlushKeepsWhatCouldNotBeSynced(t *testing.T) {
	var log strings.Builder
	s, err := openStore(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"good", "bad"} {
		if err := s.create(record{ID: id}, state{}); err != nil {
			t.Fatal(err)
		}
	}
	s.sync = func(path string) error {
		if strings.HasSuffix(path, "bad/"+stateFile) {
			return unix.EIO
		}
		return syncPath(path)
	}
	for range 3 {
		s.flush()
		if len(s.dirty) != 1 || !s.dirty["bad"] {
			t.Fatalf("to be synced: %v", s.dirty)
		}
	}
	if n := strings.Count(log.String(), "not safely on disk"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
	s.sync = syncPath
	if s.flush(); len(s.dirty) > 0 || !strings.Contains(log.String(), "on disk again") {
		t.Errorf("to be synced: %v; %s", s.dirty, &log)
	}
	s.mark("removed")
	if s.flush(); len(s.dirty) > 0 {
		t.Errorf("what was removed is to be synced: %v", s.dirty)
	}
}

// Of execs those that ended last are remembered, and those that may still be
// started; one that runs always is.
func TestTooManyExecs(t *testing.T) {
	now, zero := time.Unix(10_000, 0), 0
	all := map[string]*execs{}
	add := func(id string, age time.Duration, started bool, code *int) {
		all[id] = &execs{id: id, created: now.Add(-age), started: started, code: code}
	}
	for i := range keptExecs + 2 {
		add(fmt.Sprint("ended", i), time.Duration(i)*time.Second, true, &zero)
	}
	add("expired", pendingLimit+1, false, nil)
	add("pending", pendingLimit, false, nil)
	add("running", 1000*time.Hour, true, nil)
	got := tooMany(all, now)
	slices.Sort(got)
	if want := []string{fmt.Sprint("ended", keptExecs), fmt.Sprint("ended", keptExecs+1), "expired"}; !slices.Equal(got, want) {
		t.Errorf("forgets %v, want %v", got, want)
	}
}

func TestHostSearch(t *testing.T) {
	for conf, want := range map[string]string{
		"nameserver 192.0.2.1\n":                            "",
		"search a.example b.example\n":                      "a.example b.example",
		"search a.example\nsearch b.example\n":              "b.example",
		"domain corp.example\n":                             "corp.example",
		"domain corp.example\nsearch a.example b.example\n": "a.example b.example",
	} {
		if got := strings.Join(hostSearch(conf), " "); got != want {
			t.Errorf("%q: got %q, want %q", conf, got, want)
		}
	}
}
