// Package overlaynet is the network of one node: it decides what bridges,
// addresses, names and published ports there should be, and keeps the kernel
// so.
//
//	Source: networks, fabric, directories --+
//	                                        +--> Manager --> Links (link): namespaces, veth pairs, bridges, tunnels, the mesh
//	Connect / Disconnect / SetReady / Set --+            --> Names (dns): who may resolve what
//	                                                     --> Rules (lb): isolation, masquerade, virtual addresses, published ports
//
// The desired state is a Config, plain data, for this node's containers, and
// the Source's directories for those of others. Set makes the node match it and
// may be called again at will; the zero Config removes everything that carries
// this node's mark and nothing else. Connect and Disconnect are Set for one
// sandbox. A sandbox is the network namespace of one container.
//
// Whatever changes only notes what the kernel has to be told (pending); one
// flush reads what that stands for by then and sends it: links first, then one
// transaction of rules, then the ends of connections to those who are gone. What
// fails is pending again. Containers of this node are known from their
// sandboxes, those of others from the directories; what a directory does not
// say yet is left as it is.
//
// The package decides and imports no kernel library: link, dns and lb do, and
// fit the interfaces declared here. Names of interfaces and tables derive from
// the run directory (see Mark), so several daemons on one machine never meet.
package overlaynet
