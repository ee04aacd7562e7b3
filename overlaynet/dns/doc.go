// Package dns answers containers' questions.
//
// It fits overlaynet.Names: one resolver on the gateway address of every
// network, over UDP and TCP. Who asks is known by the source address, and
// sees the names of its own networks only:
//
//	web, web.shop, alias     a service's virtual address; without one, those of its ready containers, or of all when none is ready
//	tasks.web                those of its containers in any case
//	shop-web-1, 4f2a91c0d3e7 one container's own names
//	NAME.NETWORK             any of these, in this network
//	PTR                      container.NETWORK, service.NETWORK
//
// Of services of several stacks that are called alike in the asker's networks,
// that of its own stack is meant, otherwise all.
//
// Other names: those in a domain with resolvers of its own (Forward) go there;
// one label without a dot does not exist (NXDOMAIN at once, and nothing leaks;
// no SOA comes with it, so that nobody remembers a service that is about to
// start as missing); the rest goes to the container's own resolvers or to the
// host's, those that lately did not answer last. To a container whose networks
// are all internal no other name exists. What passes through is not changed.
//
//	packet --> listener --> answer --> asker (who) --> zones --> entry --> reply
//	                          `--> errand --> upstream --> put
//
// What is known is in tables of values that never change: an update replaces
// the values of the names that it touches, and a question reads them without
// any lock.
package dns
