package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/runtime"
)

func mustOpen(t testing.TB, dir string, w ...Wrapper) *Ring {
	t.Helper()
	r, err := Open(dir, w...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustSeal(t testing.TB, r *Ring, plain, name string) []byte {
	t.Helper()
	s, err := r.Seal([]byte(plain), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opens(r *Ring, sealed []byte, name, want string) error {
	got, err := r.Open(sealed, name)
	if err == nil && string(got) != want {
		err = fmt.Errorf("opens as %q, want %q", got, want)
	}
	return err
}

func TestSealAndOpenAcrossARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	r := mustOpen(t, dir)
	if _, err := os.Stat(r.path); err == nil {
		t.Fatal("a fresh ring has a file: a manager that joins would have a key of its own")
	}
	a, b := mustSeal(t, r, "hunter2", "secret/1"), mustSeal(t, r, "hunter2", "secret/1")
	if bytes.Equal(a, b) || bytes.Contains(a, []byte("hunter2")) {
		t.Fatal("not random, or in clear")
	}
	st, err := os.Stat(r.path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st.Mode(), err)
	}
	again := mustOpen(t, dir)
	if err := opens(again, a, "secret/1", "hunter2"); err != nil {
		t.Fatal(err)
	}
	if err := opens(again, mustSeal(t, r, "", "empty"), "empty", ""); err != nil {
		t.Fatal(err)
	}
}

func TestASealedValueIsBoundToItsRecord(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	s := mustSeal(t, r, "hunter2", "secret/1")
	for _, name := range []string{"secret/2", "secret/1 ", "", "config/1"} {
		if _, err := r.Open(s, name); !errors.Is(err, ErrDamage) {
			t.Errorf("as %q: %v", name, err)
		}
	}
	if _, err := r.Seal(nil, strings.Repeat("x", maxName+1)); !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("a name without end: %v", err)
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	s := mustSeal(t, r, "hunter2", "secret/1")
	for i := range s {
		for bit := range 8 {
			bad := bytes.Clone(s)
			bad[i] ^= 1 << bit
			if _, err := r.Open(bad, "secret/1"); err == nil {
				t.Fatalf("byte %d, bit %d: opens", i, bit)
			}
		}
	}
	for n := range s {
		if _, err := r.Open(s[:n], "secret/1"); err == nil {
			t.Fatalf("cut to %d bytes: opens", n)
		}
	}
	if _, err := r.Open(append(s, 0), "secret/1"); err == nil {
		t.Fatal("a byte more: opens")
	}
}

// TestKeyIDIsAuthenticated: two keys in the ring do not make a value's header exchangeable.
func TestKeyIDIsAuthenticated(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	s := mustSeal(t, r, "x", "n")
	if err := r.Rotate(); err != nil {
		t.Fatal(err)
	}
	other := mustSeal(t, r, "x", "n")
	copy(s[:header], other[:header])
	if _, err := r.Open(s, "n"); !errors.Is(err, ErrDamage) {
		t.Fatal(err)
	}
}

func TestRotateKeepsOldKeysForReadingUntilRetire(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	old := mustSeal(t, r, "old", "n")
	first := r.Primary()
	if err := r.Rotate(); err != nil {
		t.Fatal(err)
	}
	if r.Primary() == first {
		t.Fatal("the primary is the old key")
	}
	fresh := mustSeal(t, r, "new", "n")
	r = mustOpen(t, dir)
	for _, err := range []error{opens(r, old, "n", "old"), opens(r, fresh, "n", "new")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if id, err := KeyOf(old); err != nil || id != first {
		t.Fatalf("KeyOf: %s, %v", id, err)
	}
	if err := r.Retire(first); err != nil || len(r.Keys()) != 2 {
		t.Fatalf("keep: %v, %v", r.Keys(), err)
	}
	if err := r.Retire(); err != nil {
		t.Fatal(err)
	}
	r = mustOpen(t, dir)
	if _, err := r.Open(old, "n"); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), first) {
		t.Fatalf("retired: %v", err)
	}
	if err := opens(r, fresh, "n", "new"); err != nil {
		t.Fatal(err)
	}
}

// TestManagersNeverMeetAKeyTheyLack follows the order that a rotation has with several managers.
func TestManagersNeverMeetAKeyTheyLack(t *testing.T) {
	leader, other := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	first := mustSeal(t, leader, "one", "n")
	give := func() {
		t.Helper()
		keys, err := leader.Export()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Import(keys); err != nil {
			t.Fatal(err)
		}
	}
	give()
	if other.Primary() != leader.Primary() || len(other.Keys()) != 1 {
		t.Fatalf("%v and %v", leader.Keys(), other.Keys())
	}
	before := leader.Primary()
	id, err := leader.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if leader.Primary() != before {
		t.Fatal("a key is used before the others have it")
	}
	give()
	if err := leader.Use(id); err != nil {
		t.Fatal(err)
	}
	second := mustSeal(t, leader, "two", "n")
	for _, err := range []error{opens(other, first, "n", "one"), opens(other, second, "n", "two")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	give()
	if other.Primary() != id {
		t.Fatal("the primary does not travel")
	}
	if err := leader.Use("0011223344556677"); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
}

func TestImportRefuses(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	mustSeal(t, r, "x", "n")
	own := r.Primary()
	k := `"key":"` + strings.Repeat("A", 43) + `="`
	many := "[" + strings.Repeat(`{"id":"0011223344556677",`+k+`},`, maxKeys) + `{"id":"0011223344556688",` + k + `}]`
	for name, data := range map[string]string{
		"rubbish": "x", "id": `[{"id":"zz",` + k + `}]`, "upper case": `[{"id":"00112233445566AA",` + k + `}]`,
		"short key": `[{"id":"0011223344556677","key":"AAAA"}]`, "many": many,
		"twice":       `[{"id":"0011223344556677",` + k + `},{"id":"0011223344556677",` + k + `}]`,
		"another key": `[{"id":"` + own + `",` + k + `}]`,
	} {
		err := r.Import([]byte(data))
		if !errors.Is(err, runtime.ErrInvalid) && !errors.Is(err, runtime.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.Keys()) != 1 || r.Primary() != own {
			t.Fatalf("%s: keys %v", name, r.Keys())
		}
	}
	if err := r.Import([]byte(`[{"id":"0011223344556677",` + k + `}]`)); err != nil {
		t.Fatal(err)
	}
}

func TestTooManyKeys(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	for range maxKeys {
		if _, err := r.NewKey(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.NewKey(); !errors.Is(err, runtime.ErrConflict) {
		t.Fatal(err)
	}
}

// xorWrapper stands for a passphrase.
type xorWrapper struct {
	name string
	b    byte
}

func (w xorWrapper) Name() string { return w.name }

func (w xorWrapper) Wrap(plain []byte) ([]byte, error) {
	out := []byte{w.b}
	for _, c := range plain {
		out = append(out, c^w.b)
	}
	return out, nil
}

func (w xorWrapper) Unwrap(in []byte) ([]byte, error) {
	if len(in) == 0 || in[0] != w.b {
		return nil, errors.New("wrong passphrase")
	}
	out, err := w.Wrap(in[1:])
	return out[1:], err
}

func TestAWrappedFileIsLocked(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	s := mustSeal(t, r, "x", "n")
	pass := xorWrapper{"pass", 7}
	if err := r.Rewrap(pass); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("without passphrase: %v", err)
	}
	if _, err := Open(dir, xorWrapper{"pass", 8}); err == nil || !strings.Contains(err.Error(), "wrong passphrase") {
		t.Fatalf("another passphrase: %v", err)
	}
	if _, err := Open(dir, xorWrapper{"tpm", 7}); !errors.Is(err, ErrLocked) {
		t.Fatalf("another method: %v", err)
	}
	if err := r.Rotate(); err != nil { // stays wrapped
		t.Fatal(err)
	}
	again := mustOpen(t, dir, pass)
	if err := opens(again, s, "n", "x"); err != nil {
		t.Fatal(err)
	}
	if err := again.Rewrap(nil); err != nil {
		t.Fatal(err)
	}
	if err := opens(mustOpen(t, dir), s, "n", "x"); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedFileSaysSo(t *testing.T) {
	dir := t.TempDir()
	r := mustOpen(t, dir)
	mustSeal(t, r, "x", "n")
	for _, data := range []string{"", "{", `{"version":2}`, `{"version":1}`} {
		if err := os.WriteFile(r.path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "seal.json") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestTheFirstKeyIsMadeOnce: values sealed at the same time by a fresh ring have one key.
func TestTheFirstKeyIsMadeOnce(t *testing.T) {
	r := mustOpen(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprint(i)
			s, err := r.Seal([]byte(name), name)
			if err == nil {
				err = opens(r, s, name, name)
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if len(r.Keys()) != 1 {
		t.Fatalf("%d keys", len(r.Keys()))
	}
}

// TestRingsProperty: through any changes, what a ring sealed it opens, unless its
// key was retired; and a ring read from its file is the same ring.
func TestRingsProperty(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		sealed := map[string][]byte{}
		t.Repeat(map[string]func(*rapid.T){
			"seal": func(t *rapid.T) {
				name := rapid.StringN(0, 8, -1).Draw(t, "name")
				s, err := r.Seal([]byte("of "+name), name)
				if err != nil {
					t.Fatal(err)
				}
				sealed[name] = s
			},
			"new key": func(t *rapid.T) { r.NewKey() },
			"use": func(t *rapid.T) {
				if keys := r.Keys(); len(keys) > 0 {
					if err := r.Use(rapid.SampledFrom(keys).Draw(t, "key")); err != nil {
						t.Fatal(err)
					}
				}
			},
			"retire": func(t *rapid.T) {
				if err := r.Retire(); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				before := r.Keys()
				if r, err = Open(dir); err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(before) != fmt.Sprint(r.Keys()) {
					t.Fatalf("%v, read %v", before, r.Keys())
				}
			},
			"": func(t *rapid.T) {
				for name, s := range sealed {
					err := opens(r, s, name, "of "+name)
					id, _ := KeyOf(s)
					if _, have := r.key(id); have && err != nil || !have && !errors.Is(err, ErrNoKey) {
						t.Fatalf("%q: %v", name, err)
					}
				}
			},
		})
	})
}

func FuzzOpen(f *testing.F) {
	r := mustOpen(f, f.TempDir())
	good := mustSeal(f, r, "x", "n")
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, s []byte) {
		if plain, err := r.Open(s, "n"); err == nil && !bytes.Equal(s, good) {
			t.Fatalf("a forged value opens as %q", plain)
		}
	})
}

func FuzzImport(f *testing.F) {
	r := mustOpen(f, f.TempDir())
	mustSeal(f, r, "x", "n")
	keys, err := r.Export()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(keys)
	f.Add([]byte(`[{}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		in := mustOpen(t, dir)
		if err := in.Import(data); err != nil {
			return
		}
		if got := mustOpen(t, dir); fmt.Sprint(got.Keys()) != fmt.Sprint(in.Keys()) {
			t.Fatalf("%v, read %v", in.Keys(), got.Keys())
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r := mustOpen(b, b.TempDir())
	plain := make([]byte, 1<<10)
	for b.Loop() {
		if _, err := r.Seal(plain, "secret/1"); err != nil {
			b.Fatal(err)
		}
	}
}
