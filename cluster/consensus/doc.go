// Package consensus keeps the command log with hashicorp/raft: durable log,
// snapshots with compaction, membership of one to seven voters, archives,
// recovery, and a state machine that decodes commands and hands them to
// cluster/state, nothing else.
//
// One voter is a cluster like any other; it only need not wait for anybody:
// Open makes it stand for election at once and returns when all that was
// committed before is applied. Others are added over a Stream, on which nodes
// are found by ID.
//
//	Apply, Verify          apply.go       one command; a barrier before a consistent read
//	AddVoter, Remove, ...  members.go     who takes part, and who leads
//	Save, Restore          snapshot.go    the whole state out and in; archive.go has the format
//	Recover                recover.go     offline, when a majority is lost
//
//	raft ── guard ── Config.WrapLog ── store ── raft-wal    entries
//	     └─ guard ── vote                                   terms and votes
//	     └─ transport ── layer ── Config.Stream             other managers
//
//	DIR/          0700
//	  lock        held while the log is open
//	  mark        index of the last command that was applied, written without waiting for the disk
//	  raft/       log segments (raft-wal)
//	  raft/vote   the current term, and for whom this node voted
//	  raft/snapshots/
//
// The mark is a lower bound of what has been acknowledged: it can be old, but
// never ahead of the log. A log that ends before it has lost what it promised to
// keep, and Open says so instead of going on with less.
//
// What callers may rely on: a command that was acknowledged survives the loss of
// any minority; every manager's state is byte-equal at the same index; after
// Verify a read sees all that was acknowledged before it; ErrNotLeader means that
// nothing happened, ErrOutcomeUnknown that nobody knows.
package consensus
