package record

import (
	"bytes"
	"time"
)

// Config of a container's log.
type Config struct {
	Driver   string `json:"driver,omitempty"`   // "none" keeps nothing; "", "json-file" and "local" are the file
	Path     string `json:"path,omitempty"`     // of the current file; its directory exists
	MaxSize  int64  `json:"maxSize,omitempty"`  // bytes per file; 0 is unlimited
	MaxFiles int    `json:"maxFiles,omitempty"` // with the current one; 0 is 1
}

// Stream is where output came from.
type Stream uint8

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

// The tags of a record.
const (
	Full    = 'F' // the line's newline follows the content
	Partial = 'P' // more of the line follows in a later record
	End     = 'E' // the stream ended without a newline
	Notice  = 'N' // written by the log itself
)

const (
	// MaxContent of one record in bytes: Docker's limit for a log line.
	MaxContent = 16 << 10
	// HeaderLen is the length of everything before the content.
	HeaderLen = timeLen + len(" stdout F ")
	// MaxLen of a record with its newline; nothing longer is a record.
	MaxLen = HeaderLen + MaxContent + 1

	timeLen = len("2006-01-02T15:04:05.123456789Z")
)

var headers = [2]string{" stdout ", " stderr "}

// Record is one parsed line of a log file.
type Record struct {
	Time    time.Time
	Stream  Stream
	Tag     byte
	Content []byte // without newline; aliases the input
}

// appendTime appends t in UTC, always 30 bytes long.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, sec := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), sec, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond(), 9)
	return append(b, 'Z')
}

func appendDigits(b []byte, v, width int) []byte {
	var d [9]byte
	for i := width - 1; i >= 0; i-- {
		d[i] = byte('0' + v%10)
		v /= 10
	}
	return append(b, d[:width]...)
}

// Parse reads one line without its newline. ok is false when the line is not
// a record.
func Parse(line []byte) (r Record, ok bool) {
	if len(line) < HeaderLen || len(line) >= MaxLen {
		return r, false
	}
	if r.Time, ok = parseTime(line[:timeLen]); !ok {
		return r, false
	}
	head := line[timeLen:HeaderLen]
	switch stream := head[:8]; {
	case bytes.Equal(stream, []byte(headers[Stdout])):
		r.Stream = Stdout
	case bytes.Equal(stream, []byte(headers[Stderr])):
		r.Stream = Stderr
	default:
		return r, false
	}
	r.Tag, r.Content = head[8], line[HeaderLen:]
	known := r.Tag == Full || r.Tag == Partial || r.Tag == End || r.Tag == Notice
	return r, known && head[9] == ' '
}

func parseTime(b []byte) (time.Time, bool) {
	const shape = "0000-00-00T00:00:00.000000000Z"
	for i := range len(shape) {
		if shape[i] == '0' {
			if b[i] < '0' || b[i] > '9' {
				return time.Time{}, false
			}
		} else if b[i] != shape[i] {
			return time.Time{}, false
		}
	}
	year, month, day := digits(b[0:4]), digits(b[5:7]), digits(b[8:10])
	hour, minute, sec := digits(b[11:13]), digits(b[14:16]), digits(b[17:19])
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || sec > 60 {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, sec, digits(b[20:29]), time.UTC), true
}

func digits(b []byte) (v int) {
	for _, c := range b {
		v = v*10 + int(c-'0')
	}
	return v
}
