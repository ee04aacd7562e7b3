// Package fsx holds the file system calls that volumes and backups share:
// atomic writes, symlink-safe opens, tree copies and removals, mounts by file
// descriptor. Everything works relative to directory descriptors, so that a
// tree that changes underneath cannot lead a walk astray.
package fsx
