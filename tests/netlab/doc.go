// Package netlab makes hosts out of network namespaces, each with its own dhow
// daemon and directories, so that real stacks and clusters run on one machine.
//
//	       lab bridge namespace
//	      /         |         \
//	host 1        host 2      client (no daemon)
//	dhow daemon   dhow daemon
//
// Everything a lab makes is named after it and removed when its test ends,
// also when it fails. A lab needs root, iproute2, nsenter and the programs in
// bin; it skips loudly without them.
package netlab
