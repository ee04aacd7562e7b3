// Package reconcile decides which tasks should exist and what is wanted of
// them: services x tasks x nodes x now -> changes.
//
// It is pure: no clock, no randomness, no map order, no I/O; ids are given to
// new tasks by the caller. Changes that were made and reconciled again give
// nothing new, and at no time has a slot more than one task.
//
//	Input (one stack) --> slots    which tasks there should be, which are surplus
//	                  --> update   which tasks of an old version go now
//	                  --> gate     which tasks may start (depends_on)
//	                  --> order    which tasks may stop (its reverse)
//	                  --> Result   tasks to make, change, place and forget
//
// A task without a node belongs to the managers, who write what it waits for
// into its status. With a node it belongs to that node's agent, who writes
// what it sees; managers then only change the wish.
package reconcile
