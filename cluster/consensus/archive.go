package consensus

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// An archive of the state is
//
//	dhow-snapshot HEX\n     HEX: sha256 of the next line without its end
//	{"format":1,...}\n      Header
//	zstd                    the state; Header has its size and sha256

const (
	archiveMagic  = "dhow-snapshot "
	archiveFormat = 1
	maxHeader     = 16 << 20
)

// Header tells what an archive holds.
type Header struct {
	Format  int               `json:"format"`
	Cluster string            `json:"cluster"`         // its ID
	Index   uint64            `json:"index"`           // of the last command in it
	Term    uint64            `json:"term"`            // in which it was saved
	Time    time.Time         `json:"time"`            // at which it was saved
	Size    int64             `json:"size"`            // of the state, bytes, not compressed
	SHA256  string            `json:"sha256"`          // of the state
	Extra   map[string][]byte `json:"extra,omitempty"` // what else its maker put in
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// writeArchive writes what persist writes, which must be the same each time: it
// is called once to fill the header.
func writeArchive(w io.Writer, h *Header, persist func(io.Writer) error) error {
	sum, size := sha256.New(), counter(0)
	if err := persist(io.MultiWriter(sum, &size)); err != nil {
		return err
	}
	h.SHA256, h.Size = hex.EncodeToString(sum.Sum(nil)), int64(size)
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s%x\n%s\n", archiveMagic, sha256.Sum256(head), head); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	if err := persist(z); err != nil {
		return errors.Join(err, z.Close())
	}
	return z.Close()
}

// Inspect reads an archive to its end, checks it and returns its header.
func Inspect(r io.Reader) (Header, error) { return InspectState(r, io.Discard) }

// InspectState is Inspect that copies the state in the archive to w. After an
// error, what was written is worth nothing.
func InspectState(r io.Reader, w io.Writer) (Header, error) {
	h, err := readArchive(r, w)
	if err != nil {
		return Header{}, fmt.Errorf("inspect snapshot: %w", err)
	}
	return h, nil
}

// readArchive copies the state in an archive to w. After an error, what was
// written is worth nothing.
func readArchive(r io.Reader, w io.Writer) (Header, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	h, err := readHeader(b)
	if err != nil {
		return Header{}, err
	}
	z, err := zstd.NewReader(b)
	if err != nil {
		return Header{}, err
	}
	defer z.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, w), io.LimitReader(z, h.Size+1))
	switch {
	case err != nil:
		return Header{}, fmt.Errorf("the archive is damaged or cut off: %w", err)
	case n != h.Size || hex.EncodeToString(sum.Sum(nil)) != h.SHA256:
		return Header{}, errors.New("the archive is damaged: its state is not the one that its header describes")
	}
	return h, nil
}

func readHeader(b *bufio.Reader) (Header, error) {
	var h Header
	magic, err := readLine(b, 256)
	hash, ok := strings.CutPrefix(magic, archiveMagic)
	if err != nil || !ok {
		return h, errors.New("this is no snapshot archive")
	}
	head, err := readLine(b, maxHeader)
	if err != nil || fmt.Sprintf("%x", sha256.Sum256([]byte(head))) != hash {
		return h, errors.New("the archive is damaged: its header does not match its checksum")
	}
	if err := json.Unmarshal([]byte(head), &h); err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if h.Format != archiveFormat {
		return h, fmt.Errorf("the archive has format %d, this program knows %d", h.Format, archiveFormat)
	}
	return h, nil
}

// readLine reads a line of at most limit bytes and returns it without its end.
func readLine(b *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return string(line[:len(line)-1]), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(line) > limit:
			return "", errors.New("line too long")
		}
	}
}
