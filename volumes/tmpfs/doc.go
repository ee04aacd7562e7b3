// Package tmpfs turns tmpfs mounts of a container into OCI mounts.
package tmpfs
