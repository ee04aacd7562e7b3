// Package address keeps the leader's books of addresses: who has which in the
// networks that span nodes, tasks and plain containers in their subnets,
// services in their ranges of virtual addresses.
//
// Invariant: the books say what the records in the state say, and beside it only
// what their owner has taken for a command that is under way. They can be lost
// at any time: Follow makes them anew from the state.
//
//	state --Since--> Follow --> Books --Take--> addresses for a record
//	   ^                                             |
//	   `----------------- a command -----------------'
//
// Pure: no clock, no randomness. What was freed last is used again last, which
// is remembered by these books alone.
package address
