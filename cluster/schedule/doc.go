// Package schedule chooses nodes for tasks.
//
// It is pure: the same nodes, tasks and requests give the same places, in
// whatever order the Cluster learned of them.
//
//	state ---SetNode, Add, Remove---> Cluster ---Place(requests)---> assignments, refusals
//
// A task that finds no node gets a refusal that counts how many nodes failed
// which test:
//
//	web.2: no node fits: 3 lack memory (want 512MiB), 1 drained
//
// Tests are tried in a fixed order and a node is counted under the first that
// it fails. Of the nodes that fit, that is taken which comes first by:
//
//  1. not failing the service's tasks again and again
//  2. level by level of the spread: the branch with the fewest tasks of the service
//  3. the fewest tasks of the service
//  4. the fewest tasks
//  5. having the image
//  6. the ID
//
// The Cluster is kept from round to round. Scores of all nodes are kept in
// indexes, one for each kind of request (services that ask the same of a node
// share one), and brought up to date from a journal of the nodes that changed,
// so that a placement costs the logarithm of the number of nodes. Requests for
// volumes, mates or certain nodes look at those nodes, or at all.
package schedule
