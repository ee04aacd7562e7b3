package lease

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	if _, err := Read(path); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
	for _, end := range []int64{1, Never, Now() + int64(time.Minute)} {
		if err := Write(path, end); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err != nil || got != end {
			t.Errorf("%d, %v, want %d", got, err, end)
		}
		if got, want := Holds(path), end != 1; got != want {
			t.Errorf("lease until %d holds: %v", end, got)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(size) {
		t.Errorf("%v, %v", info, err)
	}
}

// No byte of the record may be another one, and none may be missing.
func TestADamagedFileIsNoLease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	if err := Write(path, Never); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, i int, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if end, err := Read(path); err != ErrInvalid || Holds(path) {
			t.Errorf("%s %d: %d, %v", what, i, end, err)
		}
	}
	for i := range whole {
		b := append([]byte(nil), whole...)
		b[i] ^= 0x10
		check("byte", i, b)
		check("length", i, whole[:i])
	}
	check("length", size+1, append(whole, 0))
}

// After a reboot the clock begins anew: what was written before means nothing.
func TestALeaseOfAnotherBootIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	b, err := encode(Never)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[len(magic):], "00000000-0000-0000-0000-000000000000")
	putUint64(b[sumAt:], sum(b[:sumAt]))
	if err := os.WriteFile(path, b[:], 0o600); err != nil {
		t.Fatal(err)
	}
	if end, err := Read(path); err != ErrInvalid {
		t.Errorf("%d, %v", end, err)
	}
}

func TestTheClockRuns(t *testing.T) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	var s, frac int64
	for i, c := range data {
		if c == '.' {
			for _, d := range data[:i] {
				s = s*10 + int64(d-'0')
			}
			frac = int64(data[i+1]-'0')*10 + int64(data[i+2]-'0')
			break
		}
	}
	uptime := time.Duration(s)*time.Second + time.Duration(frac)*10*time.Millisecond // of CLOCK_BOOTTIME
	if d := time.Duration(Now()) - uptime; d < 0 || d > time.Second {
		t.Errorf("%v apart from /proc/uptime", d)
	}
}
