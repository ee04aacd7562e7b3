// Package api holds the JSON shapes of /dhow/v1, the part of the socket's HTTP
// API that Docker has no word for: stacks, backups, one-off containers made
// from a stack's own nouns, and facts about the daemon.
//
// Server and client share these types. What Docker has a word for uses the
// types of github.com/moby/moby/api instead, plus the older fields in this
// package that clients of API 1.24 to 1.51 still read.
//
//	api/server: HTTP -> engine, images, volumes, networks, stacks
//	api/client: CLI and programs -> HTTP
package api
