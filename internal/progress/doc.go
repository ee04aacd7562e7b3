// Package progress shows how several things get on at once: in a terminal as a
// block of lines drawn in place, elsewhere as one plain line per change.
package progress
