// Package script tests the command line as a person or a shell script sees it:
// each file of testdata is a session with commands, what they print and their
// exit codes. Those of testdata/daemon talk to a daemon of their own.
//
// `go test ./tests/script -update` rewrites what commands print; read the diff.
package script
