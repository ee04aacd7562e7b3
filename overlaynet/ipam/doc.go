// Package ipam picks subnets for networks and addresses for containers.
//
// It is pure: no clock, no randomness, no I/O. The cluster's proposer calls
// PickSubnet and writes the answer into the replicated state; each node keeps
// one Network per network for its containers' addresses.
//
// Invariant: an address that is in use is never given again. After a crash
// the owner calls Restore for everything that lives before the first Take.
// A freed address is used again only after every other one.
package ipam
