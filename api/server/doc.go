// Package server is the HTTP handler of the daemon's socket: Docker's Engine
// API (1.24 to 1.51, with and without the version prefix) and /dhow/v1.
//
// Handlers translate and do nothing else: a request becomes one call of an
// interface declared in config.go over the nouns of runtime and stack, and the
// answer becomes Docker's JSON. docker's create request and inspect answer are
// translated in one file each way, tospec.go and toinspect.go.
//
// Invariants: a field of a create request that is set is honoured or refused
// by name (fields.go lists all of them, a test compares it with Docker's
// types); a JSON answer has {} and [] where Docker has them, never null;
// every error body is {"message": "..."}.
package server
