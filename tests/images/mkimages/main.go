package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/dhow-project/dhow/tests/images"
)

func main() {
	dir := flag.String("C", "build/images", "`directory` of the archives")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mkimages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, refs []string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		refs = images.Refs()
	}
	b := images.Builder{Dir: abs, Log: os.Stderr}
	paths, err := b.Build(ctx, refs...)
	for _, p := range paths {
		fmt.Println(p)
	}
	return err
}
