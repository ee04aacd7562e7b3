package dirrepo

import (
	"bytes"
	"testing"
	"time"

	"github.com/dhow-project/dhow/volumes/backup"
)

func sampleManifest(t testing.TB) []byte {
	m := manifest{Format: format, Info: backup.Info{ID: newID(time.Unix(1e9, 0)), Volume: "db", Labels: map[string]string{"a<b>": "&"}}}
	raw, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestManifestBits: no single changed bit passes.
func TestManifestBits(t *testing.T) {
	good := sampleManifest(t)
	if _, err := parseManifest(good); err != nil {
		t.Fatal(err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if m, err := parseManifest(bad); err == nil {
			t.Errorf("bit %d: %+v", i, m)
		}
	}
}

// FuzzManifest: what is accepted has usable names, and is what would be written.
func FuzzManifest(f *testing.F) {
	f.Add(sampleManifest(f))
	f.Add(seal([]byte(`{"format":1,"info":{"volume":"../x","id":"y"}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		if _, err := (&Repo{dir: "/r"}).backupDir(m.Info); err != nil {
			t.Error(err)
		}
	})
}
