package wire

// Streams says which standard streams a client wants.
type Streams struct{ Stdin, Stdout, Stderr bool }

func (s Streams) encode(e Encoder) Encoder { return e.Bool(s.Stdin).Bool(s.Stdout).Bool(s.Stderr) }

func decodeStreams(d *Decoder) Streams { return Streams{d.Bool(), d.Bool(), d.Bool()} }

// AttachMsg is the payload of Attach. Logs: the client reads the log up to the
// position in the answer first, so the unfinished line comes as Data at once.
type AttachMsg struct {
	Streams
	Logs bool
}

// Encode returns the payload.
func (m AttachMsg) Encode() []byte { return m.encode(nil).Bool(m.Logs) }

// DecodeAttach is the reverse of Encode.
func DecodeAttach(b []byte) (m AttachMsg, err error) {
	d := Decode(b)
	m.Streams, m.Logs = decodeStreams(d), d.Bool()
	return m, d.Err()
}

// ExecMsg is the payload of Exec. File holds the process object; the shim
// removes it.
type ExecMsg struct {
	ID, File string
	Streams
	TTY        bool
	Rows, Cols uint64
}

// Encode returns the payload.
func (m ExecMsg) Encode() []byte {
	return m.encode(Encoder(nil).String(m.ID).String(m.File)).Bool(m.TTY).Uint(m.Rows).Uint(m.Cols)
}

// DecodeExec is the reverse of Encode.
func DecodeExec(b []byte) (m ExecMsg, err error) {
	d := Decode(b)
	m.ID, m.File, m.Streams = d.String(), d.String(), decodeStreams(d)
	m.TTY, m.Rows, m.Cols = d.Bool(), d.Uint(), d.Uint()
	return m, d.Err()
}

// ResizeMsg is the payload of Resize.
type ResizeMsg struct {
	Exec       string // "" is the container
	Rows, Cols uint64
}

// Encode returns the payload.
func (m ResizeMsg) Encode() []byte { return Encoder(nil).String(m.Exec).Uint(m.Rows).Uint(m.Cols) }

// DecodeResize is the reverse of Encode.
func DecodeResize(b []byte) (m ResizeMsg, err error) {
	d := Decode(b)
	m.Exec, m.Rows, m.Cols = d.String(), d.Uint(), d.Uint()
	return m, d.Err()
}

// RejoinMsg is the payload of Rejoin.
type RejoinMsg struct {
	Exec string
}

// Encode returns the payload.
func (m RejoinMsg) Encode() []byte { return Encoder(nil).String(m.Exec) }

// DecodeRejoin is the reverse of Encode.
func DecodeRejoin(b []byte) (m RejoinMsg, err error) {
	d := Decode(b)
	m.Exec = d.String()
	return m, d.Err()
}

// SignalMsg is the payload of Signal.
type SignalMsg struct {
	Exec   string // "" is the container
	Signal uint64
	All    bool // every process of the container
}

// Encode returns the payload.
func (m SignalMsg) Encode() []byte { return Encoder(nil).String(m.Exec).Uint(m.Signal).Bool(m.All) }

// DecodeSignal is the reverse of Encode.
func DecodeSignal(b []byte) (m SignalMsg, err error) {
	d := Decode(b)
	m.Exec, m.Signal, m.All = d.String(), d.Uint(), d.Bool()
	return m, d.Err()
}

// The verbs of a Command.
const (
	Pause uint64 = iota
	Resume
	Update
)

// CommandMsg is the payload of Command.
type CommandMsg struct {
	Verb uint64
	Path string // Update: file with the resources; the shim removes it
}

// Encode returns the payload.
func (m CommandMsg) Encode() []byte { return Encoder(nil).Uint(m.Verb).String(m.Path) }

// DecodeCommand is the reverse of Encode.
func DecodeCommand(b []byte) (m CommandMsg, err error) {
	d := Decode(b)
	m.Verb, m.Path = d.Uint(), d.String()
	return m, d.Err()
}
