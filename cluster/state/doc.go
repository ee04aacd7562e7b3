// Package state is the replicated state of the cluster: tables of stacks,
// services, tasks, networks, secrets, configs and nodes, and the commands that
// change them.
//
// Invariant: the state is a function of the commands applied. Apply reads no
// clock, no randomness and no map order; time and ids come in the commands.
// Two stores fed the same commands persist to the same bytes.
//
//	command --Decode--> Apply(index, cmd) --> tables --> Snapshot() --> readers (old snapshots stay as they were)
//	                                           |  `--> Changed() is closed
//	                                           `--> Persist --> bytes --> Restore
//
// Records handed out by a Snapshot are shared: they are never changed in place,
// neither here nor by readers.
package state
