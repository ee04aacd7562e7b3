package shim

import (
	"time"

	"github.com/dhow-project/dhow/runtime/shim/logs"
)

// Config of one shim. Dir must exist for the container's whole life; a
// container that is started again gets a new shim, which may use the same Dir.
type Config struct {
	ID          string   `json:"id"`
	Bundle      string   `json:"bundle"`                // directory with config.json
	Dir         string   `json:"dir"`                   // made by Launch, mode 0700
	Runtime     string   `json:"runtime"`               // path of the OCI runtime; "" is runc in PATH
	RuntimeRoot string   `json:"runtimeRoot,omitempty"` // --root
	RuntimeArgs []string `json:"runtimeArgs,omitempty"` // further global arguments
	CgroupPath  string   `json:"cgroupPath,omitempty"`  // linux.cgroupsPath of the spec ("/dhow/ID"), to see OOM kills; "" finds it by itself

	TTY       bool   `json:"tty,omitempty"`
	Stdin     bool   `json:"stdin,omitempty"`
	StdinOnce bool   `json:"stdinOnce,omitempty"` // the first client that closes stdin, or without a terminal leaves, closes the container's
	Rows      uint16 `json:"rows,omitempty"`      // first size of the terminal
	Cols      uint16 `json:"cols,omitempty"`

	Log logs.Config `json:"log"`

	// Lease is the file of package lease without which the container may not
	// start, and at whose end it is killed, with or without a daemon; "": none.
	Lease string `json:"lease,omitempty"`
}

// Exit says how a container ended.
type Exit struct {
	Code      int       `json:"code"`             // 128+N when killed by signal N; 126 or 127 when it could not be started
	Signal    int       `json:"signal,omitempty"` // 0 when it ended by itself
	OOMKilled bool      `json:"oomKilled,omitempty"`
	At        time.Time `json:"at"`
	Error     string    `json:"error,omitempty"` // why it could not be started, or why the exit is synthetic
	// Lost: the shim was killed, nobody saw the end. Not final until Cleanup has run.
	Lost bool `json:"lost,omitempty"`
}

// State is what the shim knows about its container.
type State struct {
	Phase     string // "created", "starting", "running", "exited"
	Pid       int    // 0 unless running
	ShimPid   int
	StartedAt time.Time
	Paused    bool
	Dropped   uint64 // log lines lost since the shim began (disk full)
	Execs     int    // running
}

// ExecConfig is one further process.
type ExecConfig struct {
	ID                    string // unique within the container
	Process               []byte // OCI process object, JSON; its "terminal" must equal TTY
	TTY                   bool
	Stdin, Stdout, Stderr bool // Stdout and Stderr: what the session wants to see
	Rows, Cols            uint16
}

// ExecExit is the end of such a process.
type ExecExit struct {
	Code int // 128+N when killed by signal N
	Err  error
	Lost bool // the connection ended first: Rejoin tells whether the process goes on
}
