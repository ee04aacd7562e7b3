package cluster_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

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
