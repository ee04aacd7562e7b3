// Package cluster is one manager: it wires the replicated state, consensus,
// reconciler and scheduler, and owns the leader loop.
//
//	ApplyStack, Control, Scale --> plan (pure) --> one command --> consensus --> state.Apply
//	Run (leader only): snapshot --> reconcile (pure) --> schedule (pure) --> one command per round --> consensus
//	Assignments --> agent --> Report --> one command for many statuses --> consensus
//
// Every write is a command that carries its own time and ids, so that all
// managers hold the same bytes. Reads come from the local state.
package cluster
