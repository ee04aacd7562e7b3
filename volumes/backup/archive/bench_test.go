package archive_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dhow-project/dhow/volumes/backup/archive"
)

// mixed makes about size bytes: half of it text, a quarter noise, a quarter
// records with repetition; files from 1 KiB to 16 MiB, many small ones.
func mixed(b *testing.B, dir string, size int64) int64 {
	rnd := rand.New(rand.NewPCG(1, 2))
	var words []string
	for range 4000 {
		w := make([]byte, 2+rnd.IntN(9))
		for i := range w {
			w[i] = 'a' + byte(rnd.IntN(26))
		}
		words = append(words, string(w))
	}
	var total int64
	for i := 0; total < size; i++ {
		n := 1 << (10 + rnd.IntN(7))
		if i%40 == 0 {
			n = 1 << (20 + rnd.IntN(5))
		}
		buf := make([]byte, 0, n+64)
		for len(buf) < n {
			switch i % 4 {
			case 0, 1:
				buf = append(append(buf, words[min(rnd.IntN(4000), rnd.IntN(4000))]...), ' ')
			case 2:
				var x [64]byte
				for k := range x {
					x[k] = byte(rnd.Uint32())
				}
				buf = append(buf, x[:]...)
			case 3:
				buf = fmt.Appendf(buf, "{\"id\":%d,\"name\":%q,\"balance\":%d,\"at\":\"2026-11-%02d\"}\n", len(buf)*i, words[rnd.IntN(400)], rnd.IntN(1e6), rnd.IntN(30))
			}
		}
		p := filepath.Join(dir, fmt.Sprintf("d%02d", i%50), fmt.Sprintf("f%d", i))
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, buf[:n], 0o644); err != nil {
			b.Fatal(err)
		}
		total += int64(n)
	}
	return total
}

// BenchmarkWrite and its peer write 1 GB to a file. Run with -benchtime=3x.
func BenchmarkWrite(b *testing.B) {
	dir, out := b.TempDir(), b.TempDir()+"/out"
	total := mixed(b, dir, 1<<30)
	b.Run("dhow", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			f, err := os.Create(out)
			if err != nil {
				b.Fatal(err)
			}
			s, err := archive.Write(b.Context(), f, dir, func(*archive.Record) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
			b.ReportMetric(float64(s.Stored)/float64(total), "ratio")
		}
	})
	b.Run("tar-zstd", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			if o, err := exec.Command("sh", "-c", "tar -cf - -C "+dir+" . | zstd -q -f -o "+out).CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, o)
			}
		}
		fi, _ := os.Stat(out)
		b.ReportMetric(float64(fi.Size())/float64(total), "ratio")
	})
	b.Run("extract", func(b *testing.B) {
		f, err := os.Create(out)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if _, err := archive.Write(b.Context(), f, dir, nil); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(total)
		for b.Loop() {
			f.Seek(0, 0)
			to := filepath.Join(b.TempDir(), "x")
			os.Mkdir(to, 0o755)
			if _, err := archive.Extract(b.Context(), f, to, nil); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			os.RemoveAll(to)
			b.StartTimer()
		}
	})
	b.Run("zstd-tar", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			to := filepath.Join(b.TempDir(), "x")
			os.Mkdir(to, 0o755)
			if o, err := exec.Command("sh", "-c", "zstd -qdc "+out+" | tar -xpf - -C "+to).CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, o)
			}
			b.StopTimer()
			os.RemoveAll(to)
			b.StartTimer()
		}
	})
}
