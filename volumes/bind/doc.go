// Package bind turns host paths into mounts of a container.
package bind
