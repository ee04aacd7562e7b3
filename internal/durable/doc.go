// Package durable replaces small files so that a crash at any line leaves the
// old content or the new one, never a mixture and never an empty file.
package durable
