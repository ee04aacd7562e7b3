package cluster_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Secrets and configs are owned by the stack that made them, lent to those that
// name them as external, and go when their stack has them no more.
func TestOwnersOfSecretsAndConfigs(t *testing.T) {
	for _, kind := range []string{"secret", "config"} {
		w := newWorld(t)
		with := func(name string, external bool, content string) stack.Stack {
			s := stack.Stack{Name: name, Services: map[string]stack.Service{"web": {Name: "web", Replicas: 1, Container: stack.ContainerSpec{Image: "web:1"}}}}
			if kind == "secret" {
				s.Secrets = map[string]stack.Secret{"f": {Name: "shared", Key: "f", External: external, Data: []byte(content)}}
			} else {
				s.Configs = map[string]stack.Config{"f": {Name: "shared", Key: "f", External: external, Data: []byte(content)}}
			}
			return s
		}
		without := func(name string) stack.Stack {
			s := with(name, false, "")
			s.Secrets, s.Configs = nil, nil
			return s
		}
		refused := func(s stack.Stack, want error, text string) {
			t.Helper()
			_, _, err := w.m.ApplyStack(context.Background(), s, plan.Options{}, false)
			if !errors.Is(err, want) || err.Error() != text {
				t.Errorf("%s: got %v, want %s", kind, err, text)
			}
		}
		refused(with("guest", true, ""), runtime.ErrNotFound, "stack guest: "+kind+" f is external, and there is none of the name shared: not found")
		w.up(with("shop", false, "one"))
		w.up(with("guest", true, ""))
		refused(with("thief", false, "two"), runtime.ErrConflict, "stack thief: "+kind+" f: the name shared is taken by stack shop: conflict")
		w.up(without("guest")) // a guest takes nothing away
		w.up(with("guest", true, ""))
		w.up(without("guest"))
		w.up(without("shop"))
		w.up(with("thief", false, "two"))
	}
}
