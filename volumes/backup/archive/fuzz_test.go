package archive_test

import (
	"testing"

	"github.com/klauspost/compress/zstd"
)

var (
	encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	decoder, _ = zstd.NewReader(nil)
)

func compress(data []byte) []byte { return encoder.EncodeAll(data, nil) }

// rawTar returns the archive of dir, and the tar stream in it.
func rawTar(t testing.TB, dir string) (data, raw []byte) {
	data, _ = write(t, dir)
	raw, err := decoder.DecodeAll(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return data, raw
}
