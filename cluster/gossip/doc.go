// Package gossip tells which nodes are alive, by what the nodes find out about
// each other: every node probes some others a few times a second, asks third
// nodes when it gets no answer, and spreads what it learns. News can miss a node:
// the answers to probes show it, and it asks for what it has missed.
//
// It is a witness, not a judge: what follows from a node's death is decided by
// the manager that leads. Nodes are known by their ID; an address may change.
//
// It is the only package that imports memberlist, and may be imported by those
// that wire the cluster. The numbers that decide how fast and how sure it is
// stand in tuning.go with what they come to.
package gossip
