package stack

// Findings are what the machine where a person deploys lacks of what a stack
// asks of its host: paths, devices, options of volumes. By service, and by key of
// the volume.
type Findings struct {
	Services map[string]Problems `json:"services,omitempty"`
	Volumes  map[string]Problems `json:"volumes,omitempty"`
}
