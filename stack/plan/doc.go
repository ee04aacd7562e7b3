// Package plan decides what an apply changes: Diff compares the stack that a
// person wants with what exists and returns steps, each with its cause.
//
// It is pure: no clock, no randomness, no I/O, and the same input gives the
// same plan. It imports the nouns and the standard library only.
//
//	want (file) --+
//	              +--> Diff --> Plan{Steps, Notes, Refused, Stack}
//	have (state) -+
//
// Plan.Stack is what the state holds once the steps are done. The caller
// stores it and gives a new spec version to the services that have a Recreate
// step; their tasks are then replaced by the reconciler.
package plan
