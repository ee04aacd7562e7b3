// Package archive writes a directory tree as a compressed tar stream and reads
// it back.
//
// The stream is POSIX tar (pax) in zstd, as `tar --zstd -x` reads it: times
// with nanoseconds, extended attributes as SCHILY.xattr.NAME, files with holes
// as GNU.sparse 1.0. The writer cuts the tar stream into pieces of 4 MiB and
// compresses each as a zstd frame of its own, so that several cores work; one
// zstd stream may be any number of frames.
//
//	walk and read --chunk--> hash per file (one goroutine, in order) --> index
//	                     \-> compress (a goroutine per core) --in order--> output
//
// Writer and reader are our own because archive/tar cannot write holes, and
// does not tell a reader where they are. Archives from elsewhere are read with
// archive/tar (Import).
package archive
