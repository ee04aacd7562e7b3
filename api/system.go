package api

import (
	"time"

	"github.com/dhow-project/dhow/stack"
)

// System are facts about the daemon.
type System struct {
	ID        string    `json:"id"` // of the node
	Hostname  string    `json:"hostname"`
	Version   string    `json:"version"`
	Commit    string    `json:"commit,omitempty"`
	GoVersion string    `json:"goVersion,omitempty"`
	Pid       int       `json:"pid"`
	Started   time.Time `json:"started"`
	DataDir   string    `json:"dataDir"`
	RunDir    string    `json:"runDir"`
}

// Error is the body of every answer that is not a success, as in Docker's API.
type Error struct {
	Message  string          `json:"message"`
	Problems []stack.Problem `json:"problems,omitempty"` // of a stack, each with its place
}
