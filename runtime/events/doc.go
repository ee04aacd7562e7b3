// Package events is the node's event bus: what happened to containers,
// images, networks and volumes, in Docker's words.
//
//	engine, image, overlaynet, volumes --Publish--> Bus --Subscribe--> API server, agent
//
// The bus never blocks a publisher. It remembers the last events in a ring, so
// that a client may ask for what happened a moment ago; it is not a journal,
// and nothing in dhow depends on receiving an event.
package events
