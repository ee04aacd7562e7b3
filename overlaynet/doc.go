// Package overlaynet is the network of one node: it decides what bridges,
// addresses, names and published ports there should be, and keeps the kernel
// so.
//
//	Source (replicated networks) --+
//	                               +--> Manager --> Links (link): namespaces, veth pairs, bridges
//	Connect / Disconnect / Set ----+            --> Names (dns): who may resolve what
//	                                            --> Rules (lb): isolation, masquerade, published ports
//
// The desired state is a Config: plain data. Set makes the node match it and
// may be called again at will; the zero Config removes everything that carries
// this node's mark and nothing else. Connect and Disconnect are Set for one
// sandbox. A sandbox is the network namespace of one container.
//
// The package decides and imports no kernel library: link, dns and lb do, and
// fit the interfaces declared here. Names of interfaces and tables derive from
// the run directory (see Mark), so several daemons on one machine never meet.
package overlaynet
