package dirrepo

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
)

const (
	manifestName = "manifest.json"
	dataName     = "data.tar.zst"
	indexName    = "files.jsonl.zst"
	maxManifest  = 4 << 20
)

// ErrCorrupt is wrapped by every complaint about a backup's bytes.
var ErrCorrupt = errors.New("backup is corrupt")

// manifest describes one backup.
type manifest struct {
	Format int         `json:"format"`
	Info   backup.Info `json:"info"`
	Data   fileSum     `json:"data"`
	Index  fileSum     `json:"index"`
}

// fileSum is the size in bytes and the SHA-256 of a file.
type fileSum struct {
	Size int64  `json:"size"`
	Sum  string `json:"sha256"`
}

// sealed is the manifest file: the checksum is that of the manifest's bytes as
// they stand in the file.
type sealed struct {
	Manifest json.RawMessage `json:"manifest"`
	Sum      string          `json:"sha256"`
}

func (m *manifest) encode() ([]byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return seal(raw), nil
}

// seal is not json.Marshal(sealed{}): that may rewrite raw, and the sum is of its bytes.
func seal(raw []byte) []byte {
	return fmt.Appendf(nil, "{\"manifest\":%s,\"sha256\":%q}\n", raw, sumOf(raw))
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parseManifest accepts only what encode makes.
func parseManifest(data []byte) (*manifest, error) {
	bad := func(why string) error { return fmt.Errorf("manifest: %s: %w", why, ErrCorrupt) }
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, bad(err.Error())
	}
	if sumOf(s.Manifest) != s.Sum || !bytes.Equal(seal(s.Manifest), data) {
		return nil, bad("checksum differs")
	}
	var m manifest
	if err := json.Unmarshal(s.Manifest, &m); err != nil {
		return nil, bad(err.Error())
	}
	switch {
	case m.Format != format:
		return nil, fmt.Errorf("manifest: format %d is not known: %w", m.Format, runtime.ErrInvalid)
	case volumes.CheckName(m.Info.Volume) != nil || checkID(m.Info.ID) != nil:
		return nil, bad("names")
	case m.Data.Size < 0 || m.Index.Size < 0 || m.Info.Files < 0 || m.Info.Bytes < 0:
		return nil, bad("sizes")
	}
	return &m, nil
}

// readManifest reads the manifest of the backup in dir, which must be the one
// of that volume and ID.
func readManifest(dir string) (*manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, err
	}
	if m.Info.ID != filepath.Base(dir) || m.Info.Volume != filepath.Base(filepath.Dir(dir)) {
		return nil, fmt.Errorf("manifest: it is of %s %s: %w", m.Info.Volume, m.Info.ID, ErrCorrupt)
	}
	return m, nil
}

var idRE = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9a-f]{6}$`)

// newID sorts by time and is never given twice.
func newID(now time.Time) string {
	var b [3]byte
	rand.Read(b[:]) // never fails
	return now.UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(b[:])
}

func checkID(id string) error {
	if idRE.MatchString(id) {
		return nil
	}
	return fmt.Errorf("backup ID %q: %w", id, runtime.ErrInvalid)
}
