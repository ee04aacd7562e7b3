package swap

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// mustBegin has old and new content, each of two files, and is in phase in with one new file moved.
func mustBegin(t *testing.T, base string) (*Swap, string) {
	t.Helper()
	root, journal := filepath.Join(base, "root"), filepath.Join(base, "journal")
	put := func(dir string, names ...string) {
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	put(root, "both", "old")
	s, err := Begin(root, journal, false, true)
	if err != nil {
		t.Fatal(err)
	}
	put(s.Stage(), "both", "new")
	st := &s.state
	err = errors.Join(st.prepare(), st.write(journal, phaseOut), moveAll(st.Root, st.old()), st.write(journal, phaseIn),
		os.Rename(filepath.Join(st.stage(), "both"), filepath.Join(st.Root, "both")))
	if err != nil {
		t.Fatal(err)
	}
	return s, journal
}

func mustList(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestUndoMovesNothingWithoutItsJournal(t *testing.T) {
	s, journal := mustBegin(t, t.TempDir())
	aside := journal + ".aside"
	if err := errors.Join(os.Rename(journal, aside), os.Mkdir(journal, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := s.state.undo(journal); err == nil {
		t.Fatal("undo went on although its journal cannot be written")
	}
	if got, want := mustList(t, s.state.Root), []string{"both"}; !slices.Equal(got, want) {
		t.Errorf("the root has %q, want %q as before", got, want)
	}
	// The journal that stands still says in, and so the new content comes.
	if err := errors.Join(os.Remove(journal), os.Rename(aside, journal), Recover(journal)); err != nil {
		t.Fatal(err)
	}
	if got, want := mustList(t, s.state.Root), []string{"both", "new"}; !slices.Equal(got, want) {
		t.Errorf("after the recovery the root has %q, want %q", got, want)
	}
}

func TestPhasesNeedNoSpace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: needs root (a file system of its own)")
	}
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(base, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, journal := mustBegin(t, base)
	if err := os.WriteFile(filepath.Join(base, "full"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for _, phase := range []string{phaseStage, phaseOut, phaseIn, phaseUndoOut, phaseUndoIn} {
		if err := s.state.write(journal, phase); err != nil {
			t.Fatalf("%s: %v", phase, err)
		}
		if got, err := read(journal); err != nil || got != s.state {
			t.Errorf("%s: the journal has %+v, %v; want %+v", phase, got, err, s.state)
		}
	}
	// Here the process dies; the next one goes on with the undo.
	if err := Recover(journal); err != nil {
		t.Fatal(err)
	}
	if got, want := mustList(t, s.state.Root), []string{"both", "old"}; !slices.Equal(got, want) {
		t.Errorf("after the recovery the root has %q, want %q", got, want)
	}
}
