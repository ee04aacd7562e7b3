// Package record is the format of a container's log file and its writer. It is
// part of the resident shim and therefore imports next to nothing.
//
// A log is lines of text in the shape that container log collectors know as
// "CRI":
//
//	2026-01-02T15:04:05.123456789Z stdout F hello\n
//	|time, UTC, always 30 bytes   |stream|tag|content
//
// Tags: F a full line (its newline ends the record), P a part of a longer
// line (more of it follows in a later record of the same stream), E the last
// bytes of a stream that did not end in a newline, N a notice of the log itself
// (lines lost, a torn record removed), shown as a line of stderr. A line longer
// than 16 KiB is split into P records and a last F or E. All bytes but newline
// are content, as they came.
//
// The time is that of the read that completed the record; the order in the
// file is the order in which the shim saw the output.
//
// PATH is the current file, PATH.1 the one before, PATH.2 before that; a file
// begins and ends at a record, and is no longer than MaxSize unless a single
// record is.
package record
