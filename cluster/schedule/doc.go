// Package schedule chooses nodes for tasks.
//
// It is pure: the same input gives the same placing. A task that finds no node
// gets a refusal that counts how many nodes failed which test:
//
//	web.2: no node fits: 3 lack memory (want 512MiB), 1 drained
//
// Tests are tried in a fixed order and a node is counted under the first that
// it fails. Of the nodes that fit, the one with the fewest tasks of the service
// is taken, then the one with the fewest tasks, then the first by ID.
package schedule
