// Package daemon wires one node: replicated state, agent, engine, images,
// networks, volumes, backups and the socket.
//
//	socket --api/server--> cluster --assignments--> agent --> engine --> dhow-shim --> runc
//	                                                            |-> image, overlaynet, volumes
//
// Two daemons on one machine have different data and run directories and
// usually different network namespaces; a lock on each directory keeps them
// apart. Nothing here decides anything: the parts do.
package daemon
