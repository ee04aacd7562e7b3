package image

import "github.com/dhow-project/dhow/runtime"

// DiskUsage says where the space of a store goes, in bytes.
type DiskUsage struct {
	Layers     int64 // unpacked layers, each counted once
	Content    int64 // compressed blobs
	Containers int64 // writable layers
	Images     []ImageUsage
}

// ImageUsage is one image's part.
type ImageUsage struct {
	runtime.Image
	Shared int64 // bytes of layers that other images use too
}
