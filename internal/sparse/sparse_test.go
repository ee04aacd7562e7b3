package sparse

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestCopyLeavesHolesAndKeepsContent(t *testing.T) {
	mib := make([]byte, 1<<20)
	for name, want := range map[string][]byte{
		"empty": nil, "short": []byte("abc"), "short zeros": make([]byte, 10), "zeros": mib, "data at the end": append(bytes.Clone(mib), 'x'),
		"data within": append(append(bytes.Clone(mib), bytes.Repeat([]byte("y"), 5000)...), mib[:4000]...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := Copy(f, iotest.HalfReader(bytes.NewReader(want))); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, want %d (%v)", len(got), len(want), err)
			}
			fi, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 64<<10 {
				t.Errorf("%d bytes on disk: no holes", used)
			}
		})
	}
}

func TestCopyTellsOfACutArchiveAndWritesToPipes(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cut := io.MultiReader(bytes.NewReader([]byte("ab")), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := Copy(f, cut); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want io.ErrUnexpectedEOF", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(Copy(w, bytes.NewReader(make([]byte, 5000))), w.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); len(got) != 5000 || err != nil {
		t.Errorf("%d bytes through a pipe, want 5000 (%v)", len(got), err)
	}
}
