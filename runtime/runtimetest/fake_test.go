package runtimetest

import (
	"context"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func TestFakeConforms(t *testing.T) {
	Run(t, func(*testing.T) Engine { return NewFake() })
}

func TestFakePrintsItself(t *testing.T) {
	f := NewFake()
	ctx := context.Background()
	for _, name := range []string{"web", "db"} {
		if _, _, err := f.Create(ctx, name, stack.ContainerSpec{Image: "img"}); err != nil {
			t.Fatal(err)
		}
	}
	f.FailStart("db", errors.New("no disk"))
	if err := f.Start(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(ctx, "db"); err == nil {
		t.Fatal("start did not fail")
	}
	if err := f.SetHealth("web", "healthy"); err != nil {
		t.Fatal(err)
	}
	want := "db created image=img error=\"no disk\"\nweb running image=img health=healthy\n"
	if got := f.String(); got != want {
		t.Fatalf("got:\n%swant:\n%s", got, want)
	}
	if _, err := f.Inspect(ctx, "nobody"); !errors.Is(err, runtime.ErrNotFound) {
		t.Fatal(err)
	}
}
