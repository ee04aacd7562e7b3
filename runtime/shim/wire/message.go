package wire

import "time"

// The phases of a container.
const (
	PhaseCreated uint64 = iota
	PhaseStarting
	PhaseRunning
	PhaseExited
)

// Config is what the launcher hands to the shim: one frame's payload on its
// standard input. The listening socket is descriptor 3.
type Config struct {
	ID, Bundle, Dir      string
	Runtime, RuntimeRoot string
	RuntimeArgs          []string
	CgroupPath           string
	TTY                  bool
	Stdin, StdinOnce     bool
	Rows, Cols           uint64
	LogDriver, LogPath   string
	LogMaxSize           uint64
	LogMaxFiles          uint64
	Lease                string // "": none needed
}

// Encode returns the payload.
func (c Config) Encode() []byte {
	e := Encoder(nil).Uint(Version).String(c.ID).String(c.Bundle).String(c.Dir).String(c.Runtime).String(c.RuntimeRoot)
	e = e.Uint(uint64(len(c.RuntimeArgs)))
	for _, a := range c.RuntimeArgs {
		e = e.String(a)
	}
	e = e.String(c.CgroupPath).Bool(c.TTY).Bool(c.Stdin).Bool(c.StdinOnce).Uint(c.Rows).Uint(c.Cols)
	e = e.String(c.LogDriver).String(c.LogPath).Uint(c.LogMaxSize).Uint(c.LogMaxFiles)
	if c.Lease != "" { // a shim that does not know of leases refuses
		e = e.String(c.Lease)
	}
	return e
}

// DecodeConfig is the reverse of Encode.
func DecodeConfig(b []byte) (c Config, err error) {
	d := Decode(b)
	if d.Uint() != Version {
		return c, ErrMalformed
	}
	c.ID, c.Bundle, c.Dir, c.Runtime, c.RuntimeRoot = d.String(), d.String(), d.String(), d.String(), d.String()
	n := d.Uint()
	if n > MaxPayload/4 {
		return c, ErrMalformed
	}
	for range n {
		c.RuntimeArgs = append(c.RuntimeArgs, d.String())
	}
	c.CgroupPath, c.TTY, c.Stdin, c.StdinOnce = d.String(), d.Bool(), d.Bool(), d.Bool()
	c.Rows, c.Cols = d.Uint(), d.Uint()
	c.LogDriver, c.LogPath, c.LogMaxSize, c.LogMaxFiles = d.String(), d.String(), d.Uint(), d.Uint()
	if len(d.b) > 0 {
		c.Lease = d.String()
	}
	return c, d.Err()
}

// StateMsg is the payload of State.
type StateMsg struct {
	Version, Phase, Pid, ShimPid uint64
	StartedAt                    time.Time
	Paused                       bool
	Dropped, Execs               uint64
}

// Encode returns the payload.
func (s StateMsg) Encode() []byte {
	e := Encoder(nil).Uint(s.Version).Uint(s.Phase).Uint(s.Pid).Uint(s.ShimPid).Uint(encodeTime(s.StartedAt))
	return e.Bool(s.Paused).Uint(s.Dropped).Uint(s.Execs)
}

// DecodeState is the reverse of Encode.
func DecodeState(b []byte) (s StateMsg, err error) {
	d := Decode(b)
	s.Version, s.Phase, s.Pid, s.ShimPid = d.Uint(), d.Uint(), d.Uint(), d.Uint()
	s.StartedAt, s.Paused, s.Dropped, s.Execs = decodeTime(d.Uint()), d.Bool(), d.Uint(), d.Uint()
	return s, d.Err()
}

// ExitMsg is the payload of Exit.
type ExitMsg struct {
	Code, Signal uint64
	OOMKilled    bool
	At           time.Time
	Error        string
}

// Encode returns the payload.
func (x ExitMsg) Encode() []byte {
	return Encoder(nil).Uint(x.Code).Uint(x.Signal).Bool(x.OOMKilled).Uint(encodeTime(x.At)).String(x.Error)
}

// DecodeExit is the reverse of Encode.
func DecodeExit(b []byte) (x ExitMsg, err error) {
	d := Decode(b)
	x.Code, x.Signal, x.OOMKilled, x.At, x.Error = d.Uint(), d.Uint(), d.Bool(), decodeTime(d.Uint()), d.String()
	return x, d.Err()
}

// The kinds of an Error.
const (
	KindInternal   uint64 = iota
	KindNotRunning        // there is no such process now
	KindConflict
	KindRuntime // the OCI runtime's own error; Code is the exit code that Docker gives
)

// ErrorMsg is the payload of Error.
type ErrorMsg struct {
	Kind, Code uint64
	Text       string
}

// Encode returns the payload.
func (m ErrorMsg) Encode() []byte { return Encoder(nil).Uint(m.Kind).Uint(m.Code).String(m.Text) }

// DecodeError is the reverse of Encode.
func DecodeError(b []byte) (m ErrorMsg, err error) {
	d := Decode(b)
	m.Kind, m.Code, m.Text = d.Uint(), d.Uint(), d.String()
	return m, d.Err()
}

// StartedMsg is the payload of Started. Inode and Offset are the log's end at
// the moment of an Attach: what follows comes as Data.
type StartedMsg struct{ Pid, Inode, Offset uint64 }

// Encode returns the payload.
func (m StartedMsg) Encode() []byte {
	return Encoder(nil).Uint(m.Pid).Uint(m.Inode).Uint(m.Offset)
}

// DecodeStarted is the reverse of Encode.
func DecodeStarted(b []byte) (m StartedMsg, err error) {
	d := Decode(b)
	m.Pid, m.Inode, m.Offset = d.Uint(), d.Uint(), d.Uint()
	return m, d.Err()
}

func encodeTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func decodeTime(v uint64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(v)).UTC()
}
