package cluster

import (
	"testing"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Contents of a time when nothing was sealed are sealed when this manager leads,
// and stay what they are.
func TestContentsInClearAreSealed(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	spec := stack.Secret{Name: "shop_key", Key: "key", Data: []byte("in clear")}
	_, err = m.propose(t.Context(), []state.Change{
		{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Secrets: map[string]stack.Secret{"key": {Name: "shop_key", Key: "key"}}}}},
		{Secret: &state.Secret{Name: "shop_key", Stack: "shop", Spec: spec}},
		{Config: &state.Config{Name: "shop_empty", Stack: "shop", Spec: stack.Config{Name: "shop_empty", Key: "empty"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		if data, ok := m.content(m.store.Snapshot(), kindSecret, "shop_key", ""); !ok || string(data) != "in clear" {
			t.Errorf("%s: %q, %v", when, data, ok)
		}
		if data, ok := m.content(m.store.Snapshot(), kindConfig, "shop_empty", ""); !ok || len(data) != 0 {
			t.Errorf("%s: %q, %v", when, data, ok)
		}
	}
	same("before")
	for range 2 {
		if err := m.sealPlain(t.Context()); err != nil {
			t.Fatal(err)
		}
		same("after")
	}
	rec := m.store.Snapshot().Secret("shop_key")
	if rec.Spec.Data != nil || len(rec.Versions) != 1 || rec.Spec.Sum == "" || len(m.store.Snapshot().Config("shop_empty").Versions) != 1 {
		t.Errorf("%+v", rec)
	}
	key, err := m.summer(m.store.Snapshot())
	if err != nil || key.sum(kindSecret, "shop_key", []byte("in clear")) != rec.Spec.Sum || key.sum(kindConfig, "shop_key", []byte("in clear")) == rec.Spec.Sum {
		t.Errorf("the sum is of other things: %v", err)
	}
}
