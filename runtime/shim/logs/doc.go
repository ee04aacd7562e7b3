// Package logs reads a container's log files: the last lines without reading
// the rest, a time range, and what comes, across rotations. The format and its
// writer are in package record.
//
//	read.go    which files, from where, until when
//	scan.go    forward through one file; finds its way after damage
//	tail.go    backward from the end
//	watch.go   inotify: no polling while nothing is written
//
// What is not a record is skipped up to the next one, and the reader says so
// with an entry of stderr, "[dhow: 812 damaged bytes skipped]"; notices of the
// writer (lines lost on a full disk) look the same.
package logs
