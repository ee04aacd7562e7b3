package consensus

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// A follower whose log's end was replaced by its leader's must be able to read
// all of it after a restart: raft-wal 0.4.0 closed the segment without the index
// that it needs.
func TestCutLogCanBeReadAgain(t *testing.T) {
	dir, log := t.TempDir(), (Config{}).withDefaults().Log
	entries := func(from, to int, what string) (out []*raft.Log) {
		for i := from; i <= to; i++ {
			out = append(out, &raft.Log{Index: uint64(i), Data: fmt.Append(nil, what, i)})
		}
		return out
	}
	s, err := openStore(dir, log)
	must(t, err)
	must(t, s.StoreLogs(entries(1, 10, "old")))
	must(t, s.DeleteRange(8, 10))
	must(t, s.Close())
	for round := range 2 {
		s, err = openStore(dir, log)
		must(t, err)
		if round == 0 {
			must(t, s.StoreLogs(entries(8, 12, "new")))
		}
		for i := uint64(1); i <= 12; i++ {
			want := fmt.Sprint("old", i)
			if i >= 8 {
				want = fmt.Sprint("new", i)
			}
			var e raft.Log
			if err := s.GetLog(i, &e); err != nil || string(e.Data) != want {
				t.Fatalf("round %d, entry %d: %q, %v", round, i, e.Data, err)
			}
		}
		must(t, s.Close())
	}
}
