package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dhow-project/dhow/stack"
)

// Command is one atomic change of the state: all of Changes, in order, or none.
type Command struct {
	Time    int64    `json:"time"` // of the proposer, Unix nanoseconds
	Changes []Change `json:"changes"`
}

// Change is one step of a command; exactly one field is set.
type Change struct {
	Cluster *Cluster       `json:"cluster,omitempty"`
	Node    *stack.Node    `json:"node,omitempty"`
	Stack   *Stack         `json:"stack,omitempty"`
	Service *ServiceChange `json:"service,omitempty"`
	Left    *LeftChange    `json:"left,omitempty"`
	Given   *GivenChange   `json:"given,omitempty"`
	Network *Network       `json:"network,omitempty"`
	Enter   *Endpoint      `json:"enter,omitempty"`
	Volume  *Volume        `json:"volume,omitempty"`
	Secret  *Secret        `json:"secret,omitempty"`
	Config  *Config        `json:"config,omitempty"`
	Create  *stack.Task    `json:"create,omitempty"`
	Update  *stack.Task    `json:"update,omitempty"` // managers' fields; Status only while the task has no node. Passed over when the task is gone
	Status  *Status        `json:"status,omitempty"`
	Retire  *stack.Task    `json:"retire,omitempty"` // deletes the task and keeps this as its slot's history
	Rollout *UpdateChange  `json:"rollout,omitempty"`

	Revision *Revision      `json:"revision,omitempty"`
	Outcome  *OutcomeChange `json:"outcome,omitempty"`

	Delete *Key `json:"delete,omitempty"`
}

// LeftChange stores which anonymous volumes a service has left behind. Passed
// over when the service is gone.
type LeftChange struct {
	Stack string     `json:"stack"`
	Name  string     `json:"name"` // of the service
	Left  stack.Left `json:"left,omitempty"`
}

// GivenChange stores what the leader has chosen for a service. Passed over when
// the service is gone.
type GivenChange struct {
	Stack     string              `json:"stack"`
	Name      string              `json:"name"` // of the service
	Addresses []stack.TaskAddress `json:"addresses,omitempty"`
	Ports     []uint16            `json:"ports,omitempty"`
}

// UpdateChange stores how far the update of a service is. Passed over when the
// service is gone or has another version by now.
type UpdateChange struct {
	Stack   string              `json:"stack"`
	Name    string              `json:"name"`    // of the service
	Version uint64              `json:"version"` // that the decision was about
	Update  *stack.UpdateStatus `json:"update"`
	Back    uint64              `json:"back,omitempty"` // not 0: the service takes this version of its history again
}

// ServiceChange stores a service; Version, History, Left, Update, Addresses and
// Ports are kept by the state.
type ServiceChange struct {
	Service
	NewVersion bool `json:"newVersion,omitempty"` // Spec makes other containers than before
}

// Status is what an agent observed of a task.
type Status struct {
	Task   string           `json:"task"`
	Status stack.TaskStatus `json:"status"`
}

// Key names one record.
type Key struct {
	Table Table  `json:"table"`
	Name  string `json:"name"` // of a service: ServiceKey; of an endpoint: EndpointKey
}

// Table is the name of a table.
type Table string

// The tables, in the order in which they are persisted.
const (
	TableCluster Table = "cluster"
	TableNode    Table = "node"
	TableStack   Table = "stack"
	TableService Table = "service"
	TableTask    Table = "task"
	TablePast    Table = "past" // tasks that have ended
	TableNetwork Table = "network"
	TableVolume  Table = "volume"
	TableSecret  Table = "secret"
	TableConfig  Table = "config"

	TableEndpoint Table = "endpoint" // of containers without a task

	TableRevision Table = "revision" // no Key deletes one: they go with their stack
)

// ServiceKey is the key of a service.
func ServiceKey(stackName, service string) string { return stackName + "/" + service }

// EndpointKey is the key of a container's place in a network.
func EndpointKey(container, network string) string { return container + "/" + network }

// format is the first byte of an encoded command; it changes when older
// programs would misread what follows: four bytes of checksum and JSON. The log
// below has checksums for what a crash can do to it, not for what a disk can do
// later.
const format = 1

const prefix = 5 // bytes before the JSON

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the bytes of c: the same for equal commands, as struct fields
// have a fixed order and map keys are sorted.
func (c Command) Encode() ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, prefix, 512))
	if err := json.NewEncoder(b).Encode(c); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	data := b.Bytes()
	data[0] = format
	binary.BigEndian.PutUint32(data[1:], crc32.Checksum(data[prefix:], castagnoli))
	return data, nil
}

// Decode is the inverse of Encode.
func Decode(data []byte) (Command, error) {
	var c Command
	if len(data) <= prefix {
		return c, fmt.Errorf("decode command: only %d bytes", len(data))
	}
	if data[0] != format {
		return c, fmt.Errorf("decode command: format %d is not known, this program is too old", data[0])
	}
	if crc32.Checksum(data[prefix:], castagnoli) != binary.BigEndian.Uint32(data[1:]) {
		return c, errors.New("decode command: checksum does not match")
	}
	if err := json.Unmarshal(data[prefix:], &c); err != nil {
		return c, fmt.Errorf("decode command: %w", err)
	}
	return c, nil
}
