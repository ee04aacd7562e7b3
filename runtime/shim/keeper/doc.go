// Package keeper is the shim process: one event loop that owns everything.
//
//	epoll --+-- listening socket      conn.go, request.go: clients and what they ask
//	        +-- client connections
//	        +-- stdout, stderr, pty   stdio.go: to the log and to the clients
//	        +-- stdin pipe            stdin.go: from the clients
//	        +-- eventfd of the reaper child.go: who ended
//	        +-- timerfd               lease.go: of containers that need a lease only
//
// Only the loop touches state, so there is no lock. One more goroutine waits in
// waitid(2) and wakes the loop when a child has ended.
//
// The process is resident once per container. It therefore imports neither os
// nor net nor fmt nor anything that brings them, calls the kernel through
// package syscall, keeps its buffers outside the Go heap and gives them back
// when nothing moves. A test checks the list of imports.
//
// The end of a container, in order: its status is reaped; OOM kills are read
// from the cgroup; `delete --force` of the runtime; the rest of the pipes goes
// to the log; exit.json; Exit to every client; the sockets drain; the process
// ends.
package keeper
