// Package consensus keeps the command log with hashicorp/raft: durable log,
// snapshots with compaction, and a state machine that decodes commands and
// hands them to cluster/state, nothing else.
//
// One voter is a cluster like any other; it only need not wait for anybody:
// Open makes it stand for election at once and returns when all that was
// committed before is applied.
//
//	DIR/          0700
//	  lock        held while the log is open
//	  mark        index of the last command that was applied, written without waiting for the disk
//	  raft/       log segments and raft's own few values (raft-wal)
//	  raft/snapshots/
//
// The mark is a lower bound of what has been acknowledged: it can be old, but
// never ahead of the log. A log that ends before it has lost what it promised to
// keep, and Open says so instead of going on with less.
package consensus
