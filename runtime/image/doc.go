// Package image is the node's image store: it pulls, loads, saves, tags,
// lists and removes images, and mounts the root file systems of containers.
//
// It is containerd's libraries in one process, without its daemon: a content
// store for blobs, a bbolt database for names, labels and leases, an overlayfs
// snapshotter for unpacked layers. Layout below Config.DataDir:
//
//	content/        blobs and partial downloads
//	meta.db         names, labels, leases, garbage collection
//	snapshots/      unpacked layers, with their own metadata.db
//	rootfs/ID/      writable layer of container ID: fs, work, pin -> IMAGE/CHAIN
//	pins/KEY        what an image mount holds on to
//
// Invariant: a name is written last. Whatever happens before that, also
// kill -9, leaves only leased or unreferenced data, which the next pull
// reuses or the collector removes; an image that can be seen is complete.
//
// The start of a container touches no database: its writable layer is three
// directories, and the layers below come from a cached, pinned view.
//
// It is an adapter: it imports the runtime nouns and containerd, and is used
// by the engine and the API through the interfaces that they declare.
package image
