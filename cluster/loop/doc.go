// Package loop is the leader's deciding: it follows what changed in the state,
// looks at the stacks that this concerns, and proposes what is to be done.
//
// Invariant: the price of a round is that of the stacks looked at, never that of
// the cluster; and each command leaves a state that another leader can go on from.
//
//	state --Since--> view (nodes' loads, specs) --> queue of stacks that are due
//	   ^                                              |
//	   |                                              v  one stack at a time
//	   `--- Propose <-- batch <-- placer <-- reconcile.Stack
//	       (a command)           (schedule.Place)
//
// It reads no clock and is given ids, so that simulations drive the very loop
// that managers run.
package loop
