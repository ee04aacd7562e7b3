package swap

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// names lists a tree without the swap's own directories.
func names(t *rapid.T, dir string) []string {
	var out []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), Prefix) {
			out = append(out, e.Name())
		}
	}
	return out
}

func fill(t *rapid.T, dir, label string) []string {
	var made []string
	for _, n := range rapid.SliceOfNDistinct(rapid.StringMatching(`[abc]{1,2}`), 0, 6, rapid.ID[string]).Draw(t, label) {
		p := filepath.Join(dir, n)
		if len(n) == 1 {
			os.WriteFile(p, []byte(label), 0o600)
		} else {
			os.MkdirAll(p, 0o700)
			os.WriteFile(p+"/"+label, []byte(label), 0o600)
		}
		made = append(made, n)
	}
	slices.Sort(made)
	return made
}

// TestAnyCut: a swap that is left at any of its steps, and with any number of
// entries moved, is finished or undone as a whole, also when the recovery
// itself is cut short.
func TestAnyCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		root, journal := base+"/root", base+"/journal"
		os.Mkdir(root, 0o755)
		inside := rapid.Bool().Draw(rt, "inside")
		old := fill(rt, root, "old")
		s, err := Begin(root, journal, inside, false)
		if err != nil {
			rt.Fatal(err)
		}
		fresh := fill(rt, s.Stage(), "new")
		st := &s.state
		if err := st.prepare(); err != nil {
			rt.Fatal(err)
		}
		phase := rapid.SampledFrom([]string{phaseStage, phaseOut, phaseIn, phaseUndoIn, phaseUndoOut}).Draw(rt, "phase")
		want := leave(rt, st, journal, phase, old, fresh)
		if rapid.Bool().Draw(rt, "again") { // a recovery that cleaned only a part
			if phase != phaseStage {
				rec := *st
				if phase == phaseOut || phase == phaseIn {
					rec.forward(journal)
				} else {
					rec.undo(journal)
				}
				os.RemoveAll(st.stage())
			}
		}
		if err := Recover(journal); err != nil {
			rt.Fatal(err)
		}
		if got := names(rt, root); !slices.Equal(got, want) {
			rt.Fatalf("phase %s: root has %v, want %v (old %v, new %v)", phase, got, want, old, fresh)
		}
		if _, err := os.Stat(st.stage()); err == nil {
			rt.Fatal("stage is left")
		}
		if _, err := os.Stat(journal); err == nil {
			rt.Fatal("journal is left")
		}
	})
}

// leave brings things to some point of a phase and says what has to come of it.
func leave(t *rapid.T, st *state, journal, phase string, old, fresh []string) []string {
	some := func(from, to string) {
		for _, n := range names(t, from) {
			if rapid.Bool().Draw(t, "moved") {
				os.Rename(filepath.Join(from, n), filepath.Join(to, n))
			}
		}
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if phase == phaseStage {
		return old
	}
	check(st.write(journal, phaseOut))
	if phase == phaseOut {
		some(st.Root, st.old())
		return fresh
	}
	check(moveAll(st.Root, st.old()))
	check(st.write(journal, phaseIn))
	some(st.stage(), st.Root)
	if phase == phaseIn {
		return fresh
	}
	check(st.write(journal, phaseUndoIn))
	some(st.Root, st.stage())
	if phase == phaseUndoIn {
		return old
	}
	check(moveAll(st.Root, st.stage()))
	check(st.write(journal, phaseUndoOut))
	some(st.old(), st.Root)
	return old
}
