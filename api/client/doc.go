// Package client speaks to the daemon's socket: /dhow/v1 and the Docker
// endpoints that the command line needs, over net/http alone.
//
// Methods return *Error when the daemon refused, and *Unreachable when nobody
// answers on the socket. Streams of processes are hijacked connections whose
// two directions end independently.
package client
