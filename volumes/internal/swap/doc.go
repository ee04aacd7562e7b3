// Package swap fills a directory with new content so that at every moment,
// also after kill -9, it has either all of the old content or all of the new.
//
// The directory itself stays: it may be a mount point, and running containers
// hold it. So the new tree is made in a staging directory on the same file
// system, and then the entries are renamed: old ones out, new ones in. A
// journal beside it says how far things are:
//
//	stage   new content is being written; after a crash it is thrown away
//	out     old entries move to the old directory; after a crash this goes on
//	in      new entries move in; after a crash this goes on
//
// There is no moment at which both the old and the new content are incomplete
// and unreachable, and every step may be done again.
package swap
