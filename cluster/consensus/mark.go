package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// mark is the file that remembers the last index applied. It is not synced:
// after a crash of the machine it may be old, never ahead, because a command is
// durable before it is applied.
type mark struct {
	file  *os.File
	index uint64 // used by raft's FSM goroutine only, once raft runs
}

func openMark(path string) (*mark, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	var b [8]byte
	switch n, err := f.ReadAt(b[:], 0); {
	case n == len(b):
		return &mark{f, binary.BigEndian.Uint64(b[:])}, nil
	case n == 0 && errors.Is(err, io.EOF):
		return &mark{file: f}, nil
	default:
		f.Close()
		return nil, fmt.Errorf("read mark: %d bytes: %w", n, err)
	}
}

// set is called after index was applied. An error is passed over: the mark
// then stays a valid lower bound.
func (m *mark) set(index uint64) {
	if index <= m.index {
		return
	}
	m.index = index
	_, _ = m.file.WriteAt(binary.BigEndian.AppendUint64(nil, index), 0)
}

func (m *mark) Close() error { return m.file.Close() }
