package cluster_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// What is told about a stack goes to whoever lists stacks or watches one, and
// again at every change: the content of its secrets has no business there. The
// comparison of the next apply knows it all the same.
func TestStatusHasNoContentOfSecrets(t *testing.T) {
	const needle, motto = "needle-4711", "full sail"
	w := newWorld(t)
	web := svc("web", "web:1", 1)
	web.Container.Secrets = []stack.FileRef{{Source: "pw", Target: "/run/secrets/pw", Data: []byte(needle)}}
	web.Container.Configs = []stack.FileRef{{Source: "conf", Target: "/conf", Data: []byte(motto)}}
	s := shop(web)
	s.Secrets = map[string]stack.Secret{"pw": {Name: "shop_pw", Key: "pw", Data: []byte(needle)}}
	s.Configs = map[string]stack.Config{"conf": {Name: "shop_conf", Key: "conf", Data: []byte(motto)}}
	w.up(s)
	one := w.until("all run", ready)
	if one.Stack.Secrets["pw"].Name != "shop_pw" || len(one.Stack.Services["web"].Container.Secrets) != 1 {
		t.Errorf("the secret itself is not told: %+v", one.Stack)
	}
	for what, status := range map[string]any{"one": one, "all": w.m.Stacks()} {
		text, err := json.Marshal(status)
		must(t, err)
		for _, content := range []string{needle, motto} {
			if strings.Contains(string(text), content) || strings.Contains(string(text), base64.StdEncoding.EncodeToString([]byte(content))) {
				t.Errorf("%s: tells %q: %s", what, content, text)
			}
		}
	}
	if p := w.up(s); !p.Empty() {
		t.Errorf("the same again: %s", p)
	}
	s.Secrets["pw"] = stack.Secret{Name: "shop_pw", Key: "pw", Data: []byte("another")}
	p := w.up(s)
	if _, ok := p.Step(plan.Secret, "pw"); !ok {
		t.Errorf("new content is no change: %s", p)
	}
}

// Whoever follows a stack is told what is new, and nothing when others changed.
func TestStackSince(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	since := func(index uint64) (cluster.StackStatus, bool) {
		t.Helper()
		st, news, err := w.m.StackSince("shop", index)
		must(t, err)
		return st, news
	}
	w.up(shop(svc("web", "web:1", 2)))
	st := w.until("all run", ready)
	first, _ := since(0)
	if first.Index != st.Index || len(first.Stack.Services) != 1 || len(first.Tasks) != 2 {
		t.Errorf("since 0: %+v", first)
	}
	if _, news := since(st.Index); news {
		t.Error("nothing has changed")
	}
	_, err := w.m.CreateNetwork(ctx, stack.Network{Name: "other"})
	must(t, err)
	if _, news := since(st.Index); news {
		t.Error("something else has changed")
	}
	must(t, w.engine.Kill(ctx, "shop-web-1", "KILL"))
	w.until("the end is seen", func(now cluster.StackStatus) bool { return now.Index > st.Index })
	if now, news := since(st.Index); !news || now.Stack.Name != "" || len(now.Tasks) != 2 {
		t.Errorf("a task has changed: %v %+v", news, now)
	}
	before, _ := since(0)
	must(t, w.m.Scale(ctx, "shop", map[string]int{"web": 1}))
	if now, news := since(before.Index); !news || now.Stack.Services["web"].Replicas != 1 {
		t.Errorf("scaled: %v %+v", news, now.Stack)
	}
	all, err := w.m.Nodes(ctx)
	must(t, err)
	before, _ = since(0)
	must(t, w.m.UpdateNode(ctx, all[0].ID, 0, cluster.NodeSpec{Role: stack.RoleManager, Availability: stack.Paused}))
	if now, news := since(before.Index); !news || now.Index <= before.Index {
		t.Error("a node has changed: what is wanted of the stack, and what of it can be counted on, is a matter of the nodes")
	}
	if _, _, err := w.m.StackSince("none", 0); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("no stack: %v", err)
	}
}
