// Package dns answers containers' questions.
//
// It fits overlaynet.Names: one resolver on the gateway address of every
// network, over UDP and TCP. Who asks is known by the source address, and
// sees the names of its own networks only:
//
//	web, tasks.web, web.NETWORK   a shared name: every ready container's address, shuffled; all when none is ready
//	shop-web-1, 4f2a91c0d3e7      one container's own names
//	PTR                           container.NETWORK
//
// Other names: one label without a dot does not exist (NXDOMAIN at once, and
// nothing leaks; no SOA comes with it, so that nobody remembers a service that
// is about to start as missing); the rest goes to the container's own
// resolvers or to the host's, those that lately did not answer last. To a
// container whose networks are all internal no other name exists.
//
// Names and addresses are in maps that a change updates in place; a question
// costs a few look-ups under a read lock.
package dns
