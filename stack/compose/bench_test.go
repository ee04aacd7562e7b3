package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fiftyServices is a file of the size that the budget for an idle `up` is about.
func fiftyServices(tb testing.TB) Options {
	tb.Helper()
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range 50 {
		fmt.Fprintf(&b, `  s%d:
    image: redis:${TAG:-7}
    environment: {A: "${FOO:-x}", B: y, C: z}
    ports: ["%d:80"]
    volumes: ["data:/data", "./x:/y:ro"]
    healthcheck: {test: [CMD, "true"], interval: 5s}
    networks: [front, back]
    deploy: {replicas: 2, resources: {limits: {memory: 64M}}}
`, i, 8000+i)
	}
	b.WriteString("networks: {front: {}, back: {}}\nvolumes: {data: {}}\n")
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(b.String()), 0o666); err != nil {
		tb.Fatal(err)
	}
	return Options{WorkingDir: dir, ProjectName: "bench"}
}

func BenchmarkLoad50(b *testing.B) {
	opt := fiftyServices(b)
	for b.Loop() {
		if _, err := Load(context.Background(), opt); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkName(b *testing.B) {
	opt := fiftyServices(b)
	opt.ProjectName = ""
	for b.Loop() {
		if _, err := Name(opt); err != nil {
			b.Fatal(err)
		}
	}
}
