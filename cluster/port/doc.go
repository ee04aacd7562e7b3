// Package port is the one TCP port on which a cluster's nodes talk to each
// other: TLS 1.3 by the cluster's own authority, one listener, the protocols
// told apart by ALPN.
//
//	dhow-raft/1 -> Raft()  a stream for the managers' log; managers only
//	h2          -> GRPC()  a net.Listener for agent sessions
//	http/1.1    -> HandleHTTP(handler)
//
// Nodes dial each other by node ID; the Book knows addresses. Dialing one's own
// ID is a pair of connected sockets inside this process, so that a node alone
// runs the same code without listener and without certificate.
//
// Every connection, accepted or dialed, and every HTTP request is put to
// Config.Authorize; Drop closes what a node has open. Whoever shows no
// certificate is let to two paths only: RootPath and JoinPath.
//
// Connections that Raft, GRPC and Dial hand out are *Conn: Peer, Node and Role
// tell who is at the other end, whether it is a TLS connection or a local one.
package port
