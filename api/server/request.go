package server

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// createRequest is the body of POST /containers/create: today's types and the
// fields that clients up to API 1.51 may still send.
type createRequest struct {
	container.Config
	MacAddress       string // of the first network; up to API 1.51
	HostConfig       hostConfig
	NetworkingConfig network.NetworkingConfig
}

// hostConfig is Docker's, with fields that older clients send.
type hostConfig struct {
	container.HostConfig
	KernelMemory    int64
	KernelMemoryTCP int64
}

// updateRequest is the body of POST /containers/{id}/update.
type updateRequest struct {
	container.UpdateConfig
	KernelMemory    int64
	KernelMemoryTCP int64
}
