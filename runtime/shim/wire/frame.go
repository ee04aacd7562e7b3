package wire

import (
	"errors"
)

const (
	// Version of the protocol, in State. A newer daemon may meet an older shim.
	Version = 1
	// HeaderLen of a frame in bytes.
	HeaderLen = 9
	// MaxPayload of a frame in bytes.
	MaxPayload = 64 << 10
)

// Type of a frame.
type Type uint8

// Requests of a client.
const (
	GetState Type = 1 + iota
	Run
	Resize
	Signal
	CloseStdin
	Command
	Attach
	Exec
	Rejoin
)

// Frames of a stream, both ways.
const (
	Data Type = 32 + iota
	EOF
)

// Answers of the shim.
const (
	OK Type = 64 + iota
	Error
	State
	Started
	Exit
)

// The ids of Data frames.
const (
	Stdin uint32 = iota
	Stdout
	Stderr
)

// ErrTooLong and ErrMalformed end a connection.
var (
	ErrTooLong   = errors.New("frame too long")
	ErrMalformed = errors.New("malformed frame")
)

// Frame is one message.
type Frame struct {
	Type    Type
	ID      uint32
	Payload []byte
}

// PutHeader writes the header of a frame with n bytes of payload.
func PutHeader(b *[HeaderLen]byte, t Type, id uint32, n int) {
	putUint32(b[0:], uint32(n))
	b[4] = byte(t)
	putUint32(b[5:], id)
}

// Append appends a frame.
func Append(b []byte, t Type, id uint32, payload []byte) []byte {
	var h [HeaderLen]byte
	PutHeader(&h, t, id, len(payload))
	return append(append(b, h[:]...), payload...)
}

// Next takes the first frame off b. n is 0 when b does not hold a whole frame
// yet. The payload aliases b.
func Next(b []byte) (f Frame, n int, err error) {
	if len(b) < HeaderLen {
		return f, 0, nil
	}
	length := getUint32(b)
	if length > MaxPayload {
		return f, 0, ErrTooLong
	}
	n = HeaderLen + int(length)
	if len(b) < n {
		return f, 0, nil
	}
	return Frame{Type: Type(b[4]), ID: getUint32(b[5:]), Payload: b[HeaderLen:n:n]}, n, nil
}

// PayloadLen is the length of the payload that follows h.
func PayloadLen(h [HeaderLen]byte) (int, error) {
	n := getUint32(h[:])
	if n > MaxPayload {
		return 0, ErrTooLong
	}
	return int(n), nil
}
