package engine_test

import (
	"testing"

	"github.com/dhow-project/dhow/runtime/runtimetest"
	"github.com/dhow-project/dhow/stack"
)

func TestConformance(t *testing.T) {
	n := newNode(t)
	runtimetest.Run(t, func(*testing.T) runtimetest.Engine { return n })
}

func TestHello(t *testing.T) {
	n := newNode(t)
	out, code := n.run(sh("echo hello; exit 3"))
	if out != "hello\n" || code != 3 {
		t.Fatalf("%q %d", out, code)
	}
	_ = stack.ContainerSpec{}
}
