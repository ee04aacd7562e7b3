// Package images makes the container images that tests and examples run, out
// of Debian packages, because no registry may be at hand.
//
// They are named, tagged and configured like their public counterparts
// (entrypoint, documented environment variables, exposed ports, volumes), share
// one debian:bookworm-slim layer and are written as archives that are both OCI
// image layouts and `docker save` archives.
//
//	recipe --mmdebstrap/apt in a chroot--> upper directory --> layer.tar.gz --> build/images/NAME.tar
//
// An archive is made again only when its recipe, or that of its base, changes.
// Making images needs root and mmdebstrap; the machine's own package sources
// are used.
package images
