package server

import (
	"encoding/json"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// createRequest is the body of POST /containers/create: today's types and the
// fields that clients up to API 1.51 may still send.
type createRequest struct {
	container.Config
	Cmd, Entrypoint  command // shadow those of Config
	MacAddress       string  // of the first network; up to API 1.51
	HostConfig       hostConfig
	NetworkingConfig network.NetworkingConfig
}

// command is a list of words, or one string, which is one word.
type command []string

// UnmarshalJSON reads both forms.
func (c *command) UnmarshalJSON(data []byte) error {
	var one *string
	if json.Unmarshal(data, &one) == nil {
		if *c = nil; one != nil {
			*c = command{*one}
		}
		return nil
	}
	var words []string
	if err := json.Unmarshal(data, &words); err != nil {
		return invalid("a command is a list of strings, or one string")
	}
	*c = words
	return nil
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
