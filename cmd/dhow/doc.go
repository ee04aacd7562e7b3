// Dhow runs stacks of containers from Compose files. This program is the
// client of the daemon's socket and, as `dhow daemon`, the daemon itself.
// Commands hold flags and printing only.
package main
