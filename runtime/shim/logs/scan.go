package logs

import (
	"bytes"
	"io"
	"os"
	"strconv"

	"github.com/dhow-project/dhow/runtime/shim/logs/record"
)

// readSize is how much one read takes.
const readSize = 256 << 10

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// scanner goes forward through one file. At the end it can be asked again when
// more has been written.
type scanner struct {
	file  *os.File
	pos   int64 // of the end of buf in the file
	limit int64 // read no further; 0 is no limit
	buf   []byte
	begin int   // buf[begin:] is not scanned yet
	bad   int64 // damaged bytes since the last record
	eaten bool  // the beginning of the line in buf has been given up
}

func newScanner(f *os.File, at int64) *scanner { return &scanner{file: f, pos: at} }

// next returns the next record, valid until the next call. ok is false at the
// end. damaged counts the bytes skipped before the record.
func (s *scanner) next() (rec record.Record, damaged int64, ok bool, err error) {
	for {
		line, whole := s.line()
		if !whole {
			n, err := s.fill()
			if err != nil || n == 0 {
				return rec, 0, false, err
			}
			continue
		}
		if rec, ok = s.parse(line); ok {
			damaged, s.bad = s.bad, 0
			return rec, damaged, true, nil
		}
	}
}

// line takes the next whole line off the buffer.
func (s *scanner) line() ([]byte, bool) {
	rest := s.buf[s.begin:]
	i := bytes.IndexByte(rest, '\n')
	if i < 0 {
		if len(rest) > record.MaxLen { // no record is that long
			s.bad += int64(len(rest))
			s.begin, s.eaten = len(s.buf), true
		}
		return nil, false
	}
	s.begin += i + 1
	return rest[:i], true
}

// parse makes a record of a line. A crash of the machine can leave a run of
// zero bytes; a record right behind it counts.
func (s *scanner) parse(line []byte) (record.Record, bool) {
	if !s.eaten {
		if rec, ok := record.Parse(line); ok {
			return rec, true
		}
	}
	s.eaten = false
	if i := bytes.IndexByte(line, 0); i >= 0 {
		rest := bytes.TrimLeft(line[i:], "\x00")
		if rec, ok := record.Parse(rest); ok {
			s.bad += int64(len(line) - len(rest))
			return rec, true
		}
	}
	s.bad += int64(len(line)) + 1
	return record.Record{}, false
}

// fill reads more. A file that has become shorter was cut at its last whole
// record by a writer that began anew.
func (s *scanner) fill() (int, error) {
	if s.begin > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.begin:])]
		s.begin = 0
	}
	want := readSize
	if s.limit > 0 {
		if want = int(min(int64(want), s.limit-s.pos)); want <= 0 {
			return 0, nil
		}
	}
	if cap(s.buf)-len(s.buf) < want {
		s.buf = append(make([]byte, 0, len(s.buf)+want), s.buf...)
	}
	n, err := s.file.ReadAt(s.buf[len(s.buf):len(s.buf)+want], s.pos)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if n == 0 {
		s.noticeCut()
		return 0, nil
	}
	s.buf = s.buf[:len(s.buf)+n]
	s.pos += int64(n)
	return n, nil
}

func (s *scanner) noticeCut() {
	if st, err := s.file.Stat(); err == nil && st.Size() < s.pos {
		s.bad += int64(s.rest())
		s.buf, s.begin, s.eaten = s.buf[:0], 0, false
		s.pos = st.Size()
	}
}

// rest is how much of an unfinished line there is.
func (s *scanner) rest() int { return len(s.buf) - s.begin }

// drop gives up the unfinished line and returns how many bytes are damaged.
func (s *scanner) drop() int64 {
	n := s.bad + int64(s.rest())
	s.bad, s.begin = 0, len(s.buf)
	return n
}
