// Report runs `go test -json` and prints what a person wants to see of it:
// a line per package as it ends, the output of what failed, every skip with
// its reason, and the totals. Its exit code is 1 when anything failed.
//
//	go run ./tests/report ./...
package main
