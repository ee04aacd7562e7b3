// Package table prints lists the way every command of dhow offers them: a
// table for people that fits the terminal, one JSON object a line for
// programs, or a Go template.
package table
