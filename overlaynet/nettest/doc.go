// Package nettest gives tests a host of their own: a process in its own network
// and mount namespace, machines beside it, and small servers and clients that
// tell who reached whom.
package nettest
