package state

import (
	"bytes"
	"testing"
)

func numbers(revs []*Revision) (out []uint64) {
	for _, r := range revs {
		out = append(out, r.Number)
	}
	return out
}

func TestRevisionsAreKeptUpToALimitAndGoWithTheirStack(t *testing.T) {
	s := New()
	index := uint64(0)
	do := func(changes ...Change) {
		t.Helper()
		index++
		if err := s.Apply(index, Command{Time: int64(index), Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	do(Change{Stack: &Stack{Name: "a"}}, Change{Stack: &Stack{Name: "ab"}})
	do(Change{Revision: &Revision{Stack: "ab", Number: 1}})
	for n := range uint64(KeepRevisions + 3) {
		do(Change{Revision: &Revision{Stack: "a", Number: n + 1, Definition: []byte("x")}})
	}
	snap := s.Snapshot()
	if got := numbers(snap.Revisions("a")); len(got) != KeepRevisions || got[0] != 4 || snap.LastRevision("a").Number != KeepRevisions+3 {
		t.Errorf("kept: %v", got)
	}
	if len(snap.Revisions("ab")) != 1 || snap.Revision("a", 3) != nil || snap.Revision("a", 4) == nil {
		t.Error("revisions of one stack are those of another")
	}
	if got := len(snap.OpenRevisions()); got != KeepRevisions+1 {
		t.Errorf("%d are under way", got)
	}

	do(Change{Outcome: &OutcomeChange{Stack: "a", Number: 5, Outcome: Done}}, Change{Outcome: &OutcomeChange{Stack: "a", Number: 1, Outcome: Done}})
	do(Change{Outcome: &OutcomeChange{Stack: "a", Number: 5, Outcome: RolledBack, Message: "too late"}})
	snap = s.Snapshot()
	if r := snap.Revision("a", 5); r.Outcome != Done || r.Message != "" || r.Ended != int64(index-1) {
		t.Errorf("ended: %+v", r)
	}
	if got := len(snap.OpenRevisions()); got != KeepRevisions {
		t.Errorf("%d are under way", got)
	}

	var first, second bytes.Buffer
	if err := snap.Persist(&first); err != nil {
		t.Fatal(err)
	}
	other := New()
	if err := other.Restore(bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	again := other.Snapshot()
	if err := again.Persist(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("restored otherwise: %v", err)
	}
	if len(again.OpenRevisions()) != KeepRevisions || len(again.Revisions("a")) != KeepRevisions {
		t.Error("revisions are lost")
	}

	do(Change{Delete: &Key{TableStack, "a"}})
	snap = s.Snapshot()
	if len(snap.Revisions("a")) != 0 || len(snap.Revisions("ab")) != 1 || len(snap.OpenRevisions()) != 1 {
		t.Error("the revisions of a stack outlive it, or others go with it")
	}
}
