// Package dispatch carries a node's work between the manager that leads and the
// node: tasks and what they need one way, what was observed the other way, and
// the leases by which both sides know when the other has to be taken for lost.
//
//	leader   Core --> Server.Lead --> session per node --+
//	                                                     | one gRPC stream
//	node     agent <-- mirror <-- Client.Run <-----------+
//
// The server sends a node what it does not have yet: everything at first, then
// what changes. The node keeps a mirror of it, also on disk, so that it starts
// its containers after a reboot while no manager can be reached.
//
// Leases: the node's ends a lease's length after it sent the last heartbeat that was
// acknowledged; the server's view of it, that long after the heartbeat arrived.
// The server acknowledges after it made sure that it still leads. So the node's
// end comes first, whatever stood still in between, and no clock is ever compared with
// another machine's.
//
// It is the only package that imports grpc. It may be imported by those that
// wire the cluster.
package dispatch
