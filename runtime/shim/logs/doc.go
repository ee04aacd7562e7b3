// Package logs reads a container's log files: the last lines without reading
// the rest, a time range, and what comes, across rotations. The format and its
// writer are in package record.
package logs
