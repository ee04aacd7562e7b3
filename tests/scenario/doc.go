// Package scenario says in whole stacks what users may rely on, on hosts made
// of network namespaces, with real images and real servers.
package scenario
