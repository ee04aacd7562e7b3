package consensus

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CONSENSUS_TEST_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	if id := os.Getenv("CONSENSUS_TEST_CHILD"); id != "" {
		serveChild(os.Getenv("CONSENSUS_TEST_DIR"), id)
	}
	os.Exit(m.Run())
}

// command n makes task n of a stack.
func command(n int) state.Command {
	return state.Command{Time: int64(n), Changes: []state.Change{
		{Stack: &state.Stack{Name: "s"}},
		{Create: &stack.Task{ID: fmt.Sprintf("t%06d", n), Stack: "s", Service: "web", Slot: n}},
	}}
}

func mustOpen(t testing.TB, dir string) (*Log, *state.Store) {
	t.Helper()
	store := state.New()
	l, err := Open(Config{Dir: dir, ID: "one", Store: store, Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})), SnapshotThreshold: 64, TrailingLogs: 16})
	if err != nil {
		t.Fatal(err)
	}
	return l, store
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Errorf("raft warned: %s", b)
	return len(b), nil
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustApply(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := l.Apply(context.Background(), command(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func bytesOf(t testing.TB, s *state.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRestartReplaysToTheSameBytes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	var want []byte
	for round := range 4 {
		l, store := mustOpen(t, dir)
		if got := bytesOf(t, store); round > 0 && !bytes.Equal(got, want) {
			t.Fatalf("round %d: state differs after restart", round)
		}
		mustApply(t, l, round*50, round*50+50)
		if round == 2 {
			if err := l.Snapshot(); err != nil {
				t.Fatal(err)
			}
			mustApply(t, l, 1000, 1010)
		}
		want = bytesOf(t, store)
		mustClose(t, l)
	}
	for _, d := range []string{dir, filepath.Join(dir, "raft")} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, %v", d, st.Mode(), err)
		}
	}
}

// TestBootWaitsForNobody: one voter alone needs no election's timeout. On a busy
// machine a start may take that long all the same, but not each of many.
func TestBootWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir)
	mustApply(t, l, 0, 500)
	mustClose(t, l)
	best := time.Hour
	for tries := 0; tries < 3 || best > heartbeat && tries < 30; tries++ {
		start := time.Now()
		l, _ := mustOpen(t, dir)
		best = min(best, time.Since(start))
		mustClose(t, l)
	}
	t.Logf("restart with 500 commands: %s", best)
	if best > heartbeat {
		t.Errorf("restart took %s", best)
	}
}

// writeUntilKilled applies commands and prints the number of each that was acknowledged.
func writeUntilKilled(dir string) {
	store := state.New()
	l, err := Open(Config{Dir: dir, ID: "one", Store: store, SnapshotThreshold: 64, TrailingLogs: 16})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := len(store.Snapshot().Tasks("s")); ; i++ {
		if _, err := l.Apply(context.Background(), command(i)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ok", i)
	}
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		acked := runAndKill(t, dir, 150)
		l, store := mustOpen(t, dir)
		tasks := store.Snapshot().Tasks("s")
		if len(tasks) < acked+1 || len(tasks) > acked+2 {
			t.Fatalf("round %d: %d tasks, %d was acknowledged", round, len(tasks), acked)
		}
		want := bytesOf(t, store)
		mustClose(t, l)
		l, store = mustOpen(t, dir)
		if !bytes.Equal(bytesOf(t, store), want) {
			t.Fatal("state differs between two restarts")
		}
		mustClose(t, l)
	}
}

// runAndKill lets another process apply n commands, kills it and returns the last number it acknowledged.
func runAndKill(t *testing.T, dir string, n int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONSENSUS_TEST_WRITER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := -1, 0
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if _, err := fmt.Sscanf(sc.Text(), "ok %d", &last); err != nil {
			t.Errorf("writer: %s", sc.Text())
		}
		if lines++; lines == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	return last
}

func TestDamageIsTold(t *testing.T) {
	cases := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{"directory missing", func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "raft"))) }, "directory raft is missing"},
		{"log missing", func(t *testing.T, dir string) { must(t, os.Remove(segment(t, dir))) }, "its end is damaged"},
		{"tail cut off", func(t *testing.T, dir string) { overwrite(t, segment(t, dir), "t000029", 300) }, "its end is damaged"},
		{"entry damaged", func(t *testing.T, dir string) { overwrite(t, segment(t, dir), "t000005", 4) }, "damaged"},
		{"meta damaged", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "raft", "wal-meta.db"), []byte("nonsense"), 0o600))
		}, "log: "},
		{"in use", func(t *testing.T, dir string) {
			f, err := lockDir(dir)
			must(t, err)
			t.Cleanup(func() { f.Close() })
		}, "another daemon uses it"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l, _ := mustOpen(t, dir)
			mustApply(t, l, 0, 30)
			mustClose(t, l)
			c.damage(t, dir)
			l, err := Open(Config{Dir: dir, ID: "one", Store: state.New()})
			if err == nil {
				mustClose(t, l)
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %q, want %q", err, c.want)
			}
		})
	}
}

func TestDamagedSnapshotIsTold(t *testing.T) {
	dir := t.TempDir()
	l, _ := mustOpen(t, dir)
	mustApply(t, l, 0, 100)
	must(t, l.Snapshot())
	mustClose(t, l)
	files, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("snapshots: %v, %v", files, err)
	}
	overwrite(t, files[len(files)-1], "t000050", 4)
	if l, err := Open(Config{Dir: dir, ID: "one", Store: state.New()}); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("opened a damaged snapshot: %v, %v", l, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func segment(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "raft", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	return files[0]
}

// overwrite destroys n bytes from the first place that holds text on.
func overwrite(t *testing.T, file, text string, n int) {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	at := bytes.Index(data, []byte(text))
	if at < 0 {
		t.Fatalf("%s does not hold %q", file, text)
	}
	for i := at; i < min(at+n, len(data)); i++ {
		data[i] ^= 0xff
	}
	must(t, os.WriteFile(file, data, 0o600))
}

func BenchmarkApply(b *testing.B) {
	l, _ := mustOpen(b, b.TempDir())
	b.ResetTimer()
	mustApply(b, l, 0, b.N)
	b.StopTimer()
	mustClose(b, l)
}
