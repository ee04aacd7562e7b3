// Package reconcile decides which tasks should exist and what is wanted of
// them: services x tasks x nodes x now -> changes.
//
// It is pure: no clock, no randomness, no map order, no I/O; ids are given to
// new tasks by the caller. Changes that were made and reconciled again come to
// an end, and give nothing new then. A slot has one task, or two while one takes
// the place of the other; a task that was told to go never comes back.
//
//	Input (one stack) --> settle   which tasks are over; the rest by slot
//	                  --> gate     which tasks may start (depends_on)
//	                  --> pace     which tasks of an old version go now
//	                  --> lead     what is next for each slot: keep, replace, hand over
//	                      replace  old versions, lost and drained nodes
//	                      restart  tasks that have failed
//	                  --> order    which tasks may stop (depends_on, reversed)
//	                  --> rollout  how the update does: on, pause, back
//	                  --> Result   tasks to make, change, place and forget
//
// A task without a node belongs to the managers, who write what it waits for
// into its status. With a node it belongs to that node's agent, who writes
// what it sees; managers then only change the wish.
package reconcile
