// Package volumes keeps the volumes of one node and turns the mounts of a
// container into mounts of the OCI runtime.
//
// The Manager owns the records: which volumes exist, which containers use
// them, which of them are mounted now. What a volume is made of is the
// business of a Driver (volumes/local), host paths and tmpfs are Makers
// (volumes/bind, volumes/tmpfs). The package imports the nouns only; the
// daemon passes drivers, makers and the image store in Config.
//
//	DataDir/volumes/NAME/meta.json     definition; written once
//	DataDir/volumes/NAME/_data         content, or the driver's mount point
//	DataDir/volumes/NAME/_swap.json    journal of a copy-up or restore under way
//	DataDir/volumes/.users/USER.json   the volumes of one container
//	DataDir/volumes/.new-*, .trash-*   volumes being made and removed
//	RunDir/volumes/USER/N              subpath and image mounts of one container
//
// Invariants: a volume appears and disappears by one rename; a volume with a
// user is never removed; content is never seen half copied; the records
// survive kill -9 at any line, and those whose loss would lose data are synced.
package volumes
