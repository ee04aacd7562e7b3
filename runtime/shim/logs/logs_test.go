package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/logs/record"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func open(t testing.TB, c Config) *record.Writer {
	t.Helper()
	w, err := record.Open(c, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func all(tail int) runtime.LogOptions {
	return runtime.LogOptions{Stdout: true, Stderr: true, Tail: tail}
}

func read(t testing.TB, path string, o runtime.LogOptions) string {
	t.Helper()
	var b strings.Builder
	if err := Read(context.Background(), path, o, func(e runtime.LogEntry) error {
		b.Write(e.Line)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Whatever is written in whatever pieces comes back, for every stream.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		w := open(t, Config{Path: path, MaxSize: rapid.SampledFrom([]int64{0, 30000}).Draw(rt, "max"), MaxFiles: 1000})
		var want [2]bytes.Buffer
		for range rapid.IntRange(0, 20).Draw(rt, "writes") {
			s := record.Stream(rapid.IntRange(0, 1).Draw(rt, "stream"))
			p := bytes.Repeat([]byte(rapid.SampledFrom([]string{"abc", "\x00\xff\r", "\x1b[m"}).Draw(rt, "bytes")), rapid.IntRange(0, 12000).Draw(rt, "len"))
			for i := rapid.IntRange(1, 20000).Draw(rt, "line"); i < len(p); i += rapid.IntRange(1, 20000).Draw(rt, "line") {
				p[i] = '\n'
			}
			want[s].Write(p)
			w.Write(s, p, epoch)
		}
		w.Close(epoch)
		var got [2]bytes.Buffer
		err := Read(context.Background(), path, all(-1), func(e runtime.LogEntry) error {
			i := 0
			if e.Stream == "stderr" {
				i = 1
			}
			got[i].Write(e.Line)
			if e.Partial && len(e.Line) != record.MaxContent {
				rt.Errorf("a part of %d bytes", len(e.Line))
			}
			return nil
		})
		if err != nil || !bytes.Equal(got[0].Bytes(), want[0].Bytes()) || !bytes.Equal(got[1].Bytes(), want[1].Bytes()) {
			rt.Fatalf("%v: %d+%d bytes, want %d+%d", err, got[0].Len(), got[1].Len(), want[0].Len(), want[1].Len())
		}
	})
}

func TestSelection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{Path: path, MaxSize: 5000, MaxFiles: 100})
	for i := range 1000 {
		w.Write(record.Stream(i%2), fmt.Appendf(nil, "line %d\n", i), epoch.Add(time.Duration(i)*time.Second))
	}
	w.Close(epoch)
	for tail := range 30 {
		lines := strings.Split(read(t, path, all(tail)), "\n")
		if len(lines)-1 != tail || tail > 0 && lines[0] != fmt.Sprintf("line %d", 1000-tail) {
			t.Errorf("tail %d: %q", tail, lines)
		}
	}
	if got := strings.Count(read(t, path, all(700)), "\n"); got != 700 {
		t.Errorf("tail over several files: %d", got)
	}
	if got := read(t, path, runtime.LogOptions{Stderr: true, Tail: 2}); got != "line 997\nline 999\n" {
		t.Errorf("tail of one stream: %q", got)
	}
	o := all(-1)
	o.Since, o.Until = epoch.Add(10*time.Second), epoch.Add(12*time.Second)
	if got := read(t, path, o); got != "line 10\nline 11\nline 12\n" {
		t.Errorf("since, until: %q", got)
	}
}

func TestRotationBounds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	w := open(t, Config{Path: path, MaxSize: 4096, MaxFiles: 3})
	w.Write(record.Stdout, bytes.Repeat([]byte("0123456789\n"), 10000), epoch)
	w.Close(epoch)
	files, _ := os.ReadDir(dir)
	if len(files) != 3 {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		if st, _ := f.Info(); st.Size() > 4096 {
			t.Errorf("%s: %d bytes", f.Name(), st.Size())
		}
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{Path: path})
	w.Write(record.Stdout, []byte("one\ntwo\nthree\n"), epoch)
	w.Close(epoch)
	whole, _ := os.ReadFile(path)
	lines := bytes.SplitAfter(whole, []byte("\n"))

	for cut := len(lines[0]) + len(lines[1]) + 1; cut < len(whole); cut++ {
		os.WriteFile(path, whole[:cut], 0o600)
		got := read(t, path, all(-1))
		if !strings.HasPrefix(got, "one\ntwo\n[dhow: ") {
			t.Fatalf("torn at %d: %q", cut, got)
		}
	}
	middle := append(append(append([]byte(nil), lines[0]...), []byte("\x00\x00garbage\n")...), lines[2]...)
	os.WriteFile(path, middle, 0o600)
	if got := read(t, path, all(-1)); got != "one\n[dhow: 10 damaged bytes skipped]\nthree\n" {
		t.Errorf("damaged in the middle: %q", got)
	}
	zeros := append(append(append([]byte(nil), lines[0]...), make([]byte, 4096)...), lines[2]...)
	os.WriteFile(path, zeros, 0o600)
	if got := read(t, path, all(-1)); got != "one\n[dhow: 4096 damaged bytes skipped]\nthree\n" {
		t.Errorf("zeros in the middle: %q", got)
	}
	if got := read(t, path, all(1)); !strings.HasSuffix(got, "three\n") {
		t.Errorf("tail after damage: %q", got)
	}
	os.WriteFile(path, whole[:len(whole)-2], 0o600)
	w = open(t, Config{Path: path})
	w.Write(record.Stdout, []byte("four\n"), epoch)
	w.Close(epoch)
	if got := read(t, path, all(-1)); !strings.HasPrefix(got, "one\ntwo\n[dhow: a torn record") || !strings.HasSuffix(got, "\nfour\n") {
		t.Errorf("repaired: %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("SKIP: needs to mount a tmpfs: ", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "log")
	if err := os.WriteFile(filler, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, Config{Path: path})
	const lines = 1000
	for i := range lines {
		w.Write(record.Stdout, fmt.Appendf(nil, "line %d of a log that is too long\n", i), epoch)
	}
	if w.Dropped() == 0 {
		t.Fatal("nothing was dropped: the disk is not full")
	}
	os.Remove(filler)
	w.Write(record.Stdout, []byte("again\n"), epoch)
	w.Close(epoch)
	got := read(t, path, all(-1))
	kept := strings.Count(got, "line ")
	tail := fmt.Sprintf("[dhow: %d lines lost: no space left on device]\nagain\n", lines-kept)
	if !strings.HasSuffix(got, tail) || w.Dropped() != uint64(lines-kept) {
		t.Errorf("%d lines kept, %d dropped, ends in %q", kept, w.Dropped(), got[max(0, len(got)-100):])
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{Path: path, MaxSize: 2000, MaxFiles: 50})
	w.Write(record.Stdout, []byte("old\n"), epoch)
	o := all(-1)
	o.Follow = true
	lines, stop, ended := make(chan string, 2000), make(chan struct{}), make(chan error)
	go func() {
		ended <- Follow(context.Background(), path, o, stop, func(e runtime.LogEntry) error {
			lines <- string(e.Line)
			return nil
		})
	}()
	if got := <-lines; got != "old\n" {
		t.Fatalf("%q", got)
	}
	for i := range 1000 { // 25 rotations
		w.Write(record.Stdout, fmt.Appendf(nil, "%d\n", i), epoch)
		if i%100 == 99 {
			for j := i - 99; j <= i; j++ {
				if got := <-lines; got != fmt.Sprintf("%d\n", j) {
					t.Fatalf("%q instead of %d", got, j)
				}
			}
		}
	}
	w.Write(record.Stdout, []byte("rest"), epoch)
	w.Close(epoch)
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := <-lines; got != "rest" {
		t.Errorf("%q", got)
	}
}

// More logs are followed at once than there are inotify instances.
func TestFollowMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{Path: path})
	const many = 150
	lines, stop := make(chan string, many), make(chan struct{})
	var g errgroup.Group
	for range many {
		g.Go(func() error {
			o := all(-1)
			o.Follow = true
			return Follow(context.Background(), path, o, stop, func(e runtime.LogEntry) error {
				lines <- string(e.Line)
				return nil
			})
		})
	}
	w.Write(record.Stdout, []byte("told to all\n"), epoch)
	for range many {
		if got := <-lines; got != "told to all\n" {
			t.Errorf("%q", got)
		}
	}
	close(stop)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	w.Close(epoch)
}

func TestFollowBeforeThereIsALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(context.Background())
	o := all(-1)
	o.Follow = true
	lines, ended := make(chan string, 1), make(chan error)
	go func() {
		ended <- Read(ctx, path, o, func(e runtime.LogEntry) error { lines <- string(e.Line); return nil })
	}()
	w := open(t, Config{Path: path})
	w.Write(record.Stderr, []byte("x\n"), epoch)
	if got := <-lines; got != "x\n" {
		t.Errorf("%q", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.Close(epoch)
}

// FuzzRead: a log of any bytes is read to its end, and the good record at its
// end is found both ways.
func FuzzRead(f *testing.F) {
	var good = []byte("2026-01-02T03:04:05.000000678Z stdout F good\n")
	f.Add(good)
	f.Add([]byte("2026-01-02T03:04:05.000000678Z stderr P part"))
	f.Add(append(make([]byte, 100), good...))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "log")
		if err := os.WriteFile(path, append(append(b, '\n'), good...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tail := range []int{-1, 1} {
			if got := read(t, path, all(tail)); !strings.HasSuffix(got, "good\n") {
				t.Fatalf("tail %d: %q", tail, got)
			}
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	w := open(b, Config{Path: filepath.Join(b.TempDir(), "log"), MaxSize: 50 << 20, MaxFiles: 2})
	p := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 640)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		w.Write(record.Stdout, p, epoch)
	}
	w.Close(epoch)
}
