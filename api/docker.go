package api

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"
)

// Versions of Docker's API.
const (
	DockerVersion    = "1.51" // advertised
	DockerMinVersion = "1.24" // oldest accepted
)

// DiskUsage is the answer of GET /system/df up to API 1.51.
type DiskUsage struct {
	LayersSize  int64
	Images      []image.Summary
	Containers  []container.Summary
	Volumes     []volume.Volume
	BuildCache  []struct{}
	BuilderSize int64 `json:",omitempty"`
}

// EventMessage is one line of GET /events up to API 1.51: the three leading
// fields were left out later.
type EventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}
