package cluster_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// filed is a stack whose one service has a secret and a config.
func filed(name, image, secret, config string) stack.Stack {
	web := svc("web", image, 1)
	web.Container.Networks = nil
	web.Container.Secrets = []stack.FileRef{{Source: "key", Target: "/run/secrets/key"}}
	web.Container.Configs = []stack.FileRef{{Source: "conf", Target: "/conf"}}
	return stack.Stack{
		Name: name, Services: map[string]stack.Service{"web": web},
		Secrets: map[string]stack.Secret{"key": {Name: name + "_key", Key: "key", Data: []byte(secret)}},
		Configs: map[string]stack.Config{"conf": {Name: name + "_conf", Key: "conf", Data: []byte(config)}},
	}
}

// guest is a stack that uses the secret of another.
func guest(name, of string) stack.Stack {
	s := filed(name, "web:1", "", "")
	s.Secrets["key"] = stack.Secret{Name: of + "_key", Key: "key", External: true}
	s.Configs["conf"] = stack.Config{Name: of + "_conf", Key: "conf", External: true}
	return s
}

// given is what the tasks of a stack get, by task name: secret and config.
func (w *world) given(stackName string) map[string]string {
	out := map[string]string{}
	for _, a := range w.m.Assignments(w.m.NodeID()) {
		if a.Task.Stack == stackName && a.Task.Desired != stack.DesiredRemove {
			out[fmt.Sprintf("%s.%d", a.Task.Service, a.Task.Slot)] = string(a.Secrets["key"]) + " " + string(a.Configs["conf"])
		}
	}
	return out
}

func (w *world) gets(stackName, want string) {
	w.t.Helper()
	if got := w.given(stackName); len(got) != 1 || got["web.1"] != want {
		w.t.Errorf("%s gets %q, want %q", stackName, got, want)
	}
}

func (w *world) ready(stackName string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		changed := w.m.Changed()
		st, err := w.m.Stack(stackName)
		if err == nil && ready(st) {
			return
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			w.t.Fatalf("%s is not ready: %+v, %v", stackName, st.Services, err)
		}
	}
}

func TestContentsAreSealedAndHaveVersions(t *testing.T) {
	w := newWorld(t)
	const first, second = "needle-one-4713", "needle-two-4714"
	w.up(filed("shop", "web:1", first, "c"+first))
	w.ready("shop")
	w.up(guest("blog", "shop"))
	w.ready("blog")
	w.gets("blog", first+" c"+first)
	if p := w.up(filed("shop", "web:1", first, "c"+first)); !p.Empty() {
		t.Errorf("nothing has changed: %s", p)
	}
	p := w.up(filed("shop", "web:1", second, "c"+first))
	if want := "secret key: update: content changed\nservice web: recreate: secret key changed\nservice blog/web: recreate: secret key changed\n"; p.String() != want {
		t.Errorf("plan:\n%swant:\n%s", p, want)
	}
	w.ready("shop")
	w.ready("blog")
	w.gets("shop", second+" c"+first)
	w.gets("blog", second+" c"+first)
	if p := w.up(guest("blog", "shop")); !p.Empty() {
		t.Errorf("the guest has what is new already: %s", p)
	}
	if err := w.m.RemoveStack(t.Context(), "shop", cluster.RemoveOptions{}); !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), "secret shop_key is used by stack blog") {
		t.Errorf("down of who lends a secret: %v", err)
	}
	w.stop()
	w.start()
	w.gets("shop", second+" c"+first)
	w.clear(first, second)
}

// clear fails when one of the words is anywhere in the manager's files.
func (w *world) clear(words ...string) {
	w.t.Helper()
	files := 0
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		for _, word := range words {
			if strings.Contains(string(data), word) || strings.Contains(string(data), base64.StdEncoding.EncodeToString([]byte(word))) {
				w.t.Errorf("%s has %q", path, word)
			}
		}
		return err
	})
	if err != nil || files < 2 {
		w.t.Errorf("%d files seen: %v", files, err)
	}
}

func TestRollbackBringsBackImagesAndContents(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.up(filed("shop", "web:1", "one", "c1"))
	w.ready("shop")
	more := filed("shop", "web:2", "two", "c2")
	extra := svc("extra", "web:1", 1)
	extra.Container.Networks = nil
	more.Services["extra"] = extra
	w.up(more)
	w.ready("shop")

	p, index, err := w.m.Rollback(ctx, "shop", cluster.RollbackOptions{To: 1, DryRun: true})
	want := "secret key: update: content changed\nconfig conf: update: content changed\nservice extra: remove: not in the file any more\n" +
		"service web: recreate: config conf changed; image web:2 -> web:1; secret key changed\n"
	if err != nil || index != 0 || p.String() != want {
		t.Errorf("dry run: %v, index %d:\n%s", err, index, p)
	}
	w.gets2("shop", "web.1", "two c2")
	if _, _, err = w.m.Rollback(ctx, "shop", cluster.RollbackOptions{To: 1, Node: "one"}); err != nil {
		t.Fatal(err)
	}
	w.until("the old image runs alone", func(st cluster.StackStatus) bool {
		return len(st.Services) == 1 && st.Services[0].Ready && st.Services[0].Image == "web:1"
	})
	w.gets("shop", "one c1")
	if p := w.up(filed("shop", "web:1", "one", "c1")); !p.Empty() {
		t.Errorf("the file of then changes nothing now: %s", p)
	}

	revs := w.history("shop", func(revs []cluster.Revision) bool { return revs[0].Result == "completed" && revs[0].Ended != 0 })
	if len(revs) != 3 || revs[0].Number != 3 || !revs[0].Current || revs[0].Back != 1 || revs[0].Node != "one" || revs[0].Ended == 0 || revs[2].Number != 1 {
		t.Errorf("history: %+v", revs)
	}
	for _, name := range []string{"nothing", "shop"} {
		if _, _, err := w.m.Rollback(ctx, name, cluster.RollbackOptions{To: 9}); !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("%s back to 9: %v", name, err)
		}
	}
}

func (w *world) gets2(stackName, task, want string) {
	w.t.Helper()
	if got := w.given(stackName)[task]; got != want {
		w.t.Errorf("%s of %s gets %q, want %q", task, stackName, got, want)
	}
}

// history waits for a history that is as f wants it.
func (w *world) history(stackName string, f func([]cluster.Revision) bool) []cluster.Revision {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		changed := w.m.Changed()
		revs, err := w.m.History(stackName)
		if err == nil && len(revs) > 0 && f(revs) {
			return revs
		}
		select {
		case <-changed:
		case <-time.After(time.Until(deadline)):
			w.t.Fatalf("history: %+v, %v", revs, err)
		}
	}
}

func TestHistoryKeepsTenAndContentsGoWithIt(t *testing.T) {
	w := newWorld(t)
	for i := range 13 {
		w.up(filed("shop", "web:1", fmt.Sprint("secret ", i), "same"))
	}
	revs, err := w.m.History("shop")
	if err != nil || len(revs) != 10 || revs[0].Number != 13 || revs[9].Number != 4 {
		t.Fatalf("%d revisions: %v", len(revs), err)
	}
	if _, _, err := w.m.Rollback(t.Context(), "shop", cluster.RollbackOptions{To: 3}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("back to what is not kept: %v", err)
	}
	if _, _, err := w.m.Rollback(t.Context(), "shop", cluster.RollbackOptions{To: 5}); err != nil {
		t.Fatal(err)
	}
	w.ready("shop")
	w.gets("shop", "secret 4 same")

	// A secret that the stack has no more comes back with the revision that had it.
	bare := filed("shop", "web:1", "", "same")
	web := bare.Services["web"]
	web.Container.Secrets = nil
	bare.Services["web"], bare.Secrets = web, nil
	w.up(bare)
	w.ready("shop")
	w.gets("shop", " same")
	if _, _, err := w.m.Rollback(t.Context(), "shop", cluster.RollbackOptions{To: 14}); err != nil {
		t.Fatal(err)
	}
	w.ready("shop")
	w.gets("shop", "secret 4 same")
}

// With --no-recreate the containers keep the content that they have, also those
// made in their place, and the next apply gives them the new one.
func TestNoRecreateKeepsTheContent(t *testing.T) {
	w := newWorld(t)
	w.up(filed("shop", "web:1", "one", "c"))
	w.ready("shop")
	if _, _, err := w.m.ApplyStack(t.Context(), filed("shop", "web:1", "two", "c"), plan.Options{NoRecreate: true}, false); err != nil {
		t.Fatal(err)
	}
	w.gets("shop", "one c")
	p := w.up(filed("shop", "web:1", "two", "c"))
	if want := "service web: recreate: secret key changed\n"; p.String() != want {
		t.Errorf("plan:\n%swant:\n%s", p, want)
	}
	w.ready("shop")
	w.gets("shop", "two c")
}
