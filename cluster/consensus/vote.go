package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// vote is raft's stable store: the current term, and for whom this node voted
// in which. It is a file of two slots, written in turn and in place: a term or a
// vote costs one write to the disk instead of the six of a database, which an
// election on a slow disk would not live to see, and none of them needs space on
// a disk that is full.
//
//	slot, 512 bytes: magic 4 | sequence 8 | term 8 | vote's term 8 | length 2 | candidate | crc32c 4
type vote struct {
	file *os.File

	mu      sync.Mutex
	now     ballot // guarded by mu; what is on disk
	pending uint64 // guarded by mu; term of a vote whose candidate comes next
}

type ballot struct {
	seq, term, voted uint64
	candidate        []byte
}

const (
	slotSize  = 512
	slotMagic = "dhv1"
	slotHead  = 4 + 8 + 8 + 8 + 2
)

// raft's keys.
const (
	keyTerm      = "CurrentTerm"
	keyVoteTerm  = "LastVoteTerm"
	keyCandidate = "LastVoteCand"
)

// ballots is where terms and votes were kept before.
type ballots interface {
	GetUint64(key []byte) (uint64, error)
	Get(key []byte) ([]byte, error)
}

// openVote opens the file in dir, or makes it of what an older store has.
func openVote(dir string, older ballots) (*vote, error) {
	path := filepath.Join(dir, "vote")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := makeVote(path, older); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	v := &vote{file: f}
	if err := v.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("file %s is damaged: %w", path, err)
	}
	return v, nil
}

func makeVote(path string, older ballots) error {
	var b ballot
	var errs [3]error
	b.term, errs[0] = older.GetUint64([]byte(keyTerm))
	b.voted, errs[1] = older.GetUint64([]byte(keyVoteTerm))
	b.candidate, errs[2] = older.Get([]byte(keyCandidate))
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b.encode(), b.encode()...), 0o600); err != nil {
		return err
	}
	for _, name := range []string{tmp, filepath.Dir(path)} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
		if name == tmp {
			if err := os.Rename(tmp, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b ballot) encode() []byte {
	out := make([]byte, 0, slotSize)
	out = append(out, slotMagic...)
	for _, n := range []uint64{b.seq, b.term, b.voted} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.candidate)))
	out = append(out, b.candidate...)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	return append(out, make([]byte, slotSize-len(out))...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func decodeBallot(slot []byte) (ballot, bool) {
	n := slotHead + int(binary.BigEndian.Uint16(slot[slotHead-2:]))
	if !bytes.HasPrefix(slot, []byte(slotMagic)) || n+4 > len(slot) ||
		crc32.Checksum(slot[:n], castagnoli) != binary.BigEndian.Uint32(slot[n:]) {
		return ballot{}, false
	}
	u := func(at int) uint64 { return binary.BigEndian.Uint64(slot[at:]) }
	return ballot{u(4), u(12), u(20), bytes.Clone(slot[slotHead:n])}, true
}

// load takes the newer slot that is whole: a crash can have torn the one that
// was being written, and then nobody has been told of it.
func (v *vote) load() error {
	found := false
	for i := range int64(2) {
		slot := make([]byte, slotSize)
		if _, err := v.file.ReadAt(slot, i*slotSize); err != nil {
			return err
		}
		if b, ok := decodeBallot(slot); ok && (!found || b.seq > v.now.seq) {
			v.now, found = b, true
		}
	}
	if !found {
		return errors.New("neither of its records is whole")
	}
	return nil
}

func (v *vote) saveLocked(b ballot) error {
	b.seq = v.now.seq + 1
	if len(b.candidate) > slotSize-slotHead-4 {
		return fmt.Errorf("candidate %q is too long", b.candidate)
	}
	if _, err := v.file.WriteAt(b.encode(), int64(b.seq%2)*slotSize); err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(v.file.Fd())); err != nil {
		return err
	}
	v.now = b
	return nil
}

// SetUint64 stores the term. That of a vote waits for the candidate's name: one
// without the other means nothing.
func (v *vote) SetUint64(key []byte, n uint64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch string(key) {
	case keyVoteTerm:
		v.pending = n
		return nil
	case keyTerm:
		if n == v.now.term {
			return nil
		}
		b := v.now
		b.term = n
		return v.saveLocked(b)
	}
	return fmt.Errorf("vote: key %q is not known", key)
}

// Set stores a vote.
func (v *vote) Set(key, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if string(key) != keyCandidate {
		return fmt.Errorf("vote: key %q is not known", key)
	}
	b := v.now
	b.voted, b.candidate = v.pending, bytes.Clone(value)
	return v.saveLocked(b)
}

// GetUint64 returns a term, 0 before there was one.
func (v *vote) GetUint64(key []byte) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch string(key) {
	case keyVoteTerm:
		return v.now.voted, nil
	case keyTerm:
		return max(v.now.term, v.now.voted), nil
	}
	return 0, fmt.Errorf("vote: key %q is not known", key)
}

// Get returns the candidate of the last vote, nil before there was one.
func (v *vote) Get(key []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if string(key) != keyCandidate {
		return nil, fmt.Errorf("vote: key %q is not known", key)
	}
	if len(v.now.candidate) == 0 {
		return nil, nil
	}
	return bytes.Clone(v.now.candidate), nil
}

// Close closes the file.
func (v *vote) Close() error { return v.file.Close() }
