package image

import (
	"bytes"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func TestNames(t *testing.T) {
	s := newStore(t, nil)
	load(t, s, simple("app", "a"), simple("localhost/x", "b"), simple("localhost:5000/y:2", "c"))
	for ref, tag := range map[string]string{
		"app": "app:latest", "app:latest": "app:latest", "docker.io/app": "app:latest", "index.docker.io/library/app:latest": "app:latest",
		"localhost/x": "localhost/x:latest", "localhost:5000/y:2": "localhost:5000/y:2"} {
		if img := get(t, s, ref); !slices.Equal(img.Tags, []string{tag}) {
			t.Errorf("%s has tags %q", ref, img.Tags)
		}
	}
	for _, ref := range []string{"x", "app:2", "localhost:5000/y", "abcdef", strings.Repeat("0", 64)} {
		_, err := s.Image(t.Context(), ref, "")
		wantErr(t, err, runtime.ErrNotFound, "no such image: "+ref)
	}
	for _, ref := range []string{"", "UPPER", "a b", "app@sha256:123"} {
		_, err := s.Image(t.Context(), ref, "")
		wantErr(t, err, runtime.ErrInvalid)
	}
	// A name wins over the beginning of an ID.
	id := get(t, s, "app").ID
	if err := s.Tag(t.Context(), "localhost/x", id[7:19]); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, id[7:19]); got.ID == id {
		t.Error("a short ID hid a name")
	}
}

func TestTagAndRemove(t *testing.T) {
	var mu sync.Mutex
	var events []string
	s := newStore(t, func(c *Config) {
		c.Publish = func(e runtime.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e.Action)
		}
	})
	ctx := t.Context()
	load(t, s, simple("app:1", "a", "b"))
	id := get(t, s, "app:1").ID
	if err := s.Tag(ctx, "app:1", "team/app:2"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.Tag(ctx, "nothing", "app:3"), runtime.ErrNotFound)
	wantErr(t, s.Tag(ctx, "app:1", "app@"+id), runtime.ErrInvalid)
	wantErr(t, s.Tag(ctx, "app:1", "BAD"), runtime.ErrInvalid)
	if img := get(t, s, id[:20]); !slices.Equal(img.Tags, []string{"app:1", "team/app:2"}) {
		t.Errorf("tags %q", img.Tags)
	}
	_, err := s.Remove(ctx, id, false, true)
	wantErr(t, err, runtime.ErrConflict, "app:1", "team/app:2")
	r, err := s.Remove(ctx, "app:1", false, true)
	if err != nil || !slices.Equal(r.Untagged, []string{"app:1"}) || len(r.Deleted) != 0 {
		t.Errorf("untag: %+v, %v", r, err)
	}
	r, err = s.Remove(ctx, id[7:19], false, true)
	if err != nil || !slices.Equal(r.Untagged, []string{"team/app:2"}) || len(r.Deleted) != 3 || r.Deleted[0] != id || r.Reclaimed == 0 {
		t.Errorf("delete: %+v, %v", r, err)
	}
	_, err = s.Remove(ctx, "app:1", true, true)
	wantErr(t, err, runtime.ErrNotFound)
	wantEmpty(t, s)
	if want := []string{"load", "tag", "untag", "untag", "delete"}; !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}

func TestRemoveSharedLayers(t *testing.T) {
	s := newStore(t, nil)
	load(t, s, simple("one:1", "base", "one"), simple("two:1", "base", "two"))
	u, err := s.DiskUsage(t.Context())
	if err != nil || len(u.Images) != 2 || u.Images[0].Shared == 0 || u.Images[0].Shared >= u.Images[0].Size || u.Layers == 0 || u.Content == 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	r, err := s.Remove(t.Context(), "one:1", false, true)
	if err != nil || len(r.Deleted) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	dir := mountDir(t)
	if err := s.MountRootfs(t.Context(), "c", get(t, s, "two:1").ID, dir+"/root"); err != nil {
		t.Fatal(err)
	}
	if readFile(t, dir+"/root/data/0") != "base" {
		t.Error("the shared layer is gone")
	}
	s.RemoveRootfs(t.Context(), "c", dir+"/root")
}

func TestPrune(t *testing.T) {
	users := map[string][]string{}
	s := newStore(t, func(c *Config) { c.InUse = func() (map[string][]string, error) { return users, nil } })
	ctx := t.Context()
	labelledImg := simple("labelled:1", "l")
	labelledImg.Config.Labels = map[string]string{"keep": "yes"}
	load(t, s, simple("used:1", "u"), simple("free:1", "f"), labelledImg, simple("", "dangling"))
	users[get(t, s, "used:1").ID] = []string{"web"}
	r, err := s.Prune(ctx, false, nil)
	if err != nil || len(r.Untagged) != 0 || len(r.Deleted) != 2 {
		t.Errorf("dangling: %+v, %v", r, err)
	}
	r, err = s.Prune(ctx, true, map[string]string{"keep": ""})
	if err != nil || !slices.Equal(r.Untagged, []string{"labelled:1"}) {
		t.Errorf("by label: %+v, %v", r, err)
	}
	r, err = s.Prune(ctx, true, nil)
	if err != nil || !slices.Equal(r.Untagged, []string{"free:1"}) {
		t.Errorf("all: %+v, %v", r, err)
	}
	if list, _ := s.List(ctx); len(list) != 1 || list[0].Tags[0] != "used:1" {
		t.Errorf("left: %+v", list)
	}
}

func TestConfigAndHistory(t *testing.T) {
	img := simple("app:1", "a", "bb")
	img.Config.User, img.Config.StopSignal, img.Config.WorkingDir = "app", "SIGQUIT", "/srv"
	img.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}, "443/tcp": {}}
	img.Config.Volumes = map[string]struct{}{"/data": {}}
	img.Config.Healthcheck = &imagetest.Healthcheck{Test: []string{"CMD", "true"}, Interval: 5e9, Retries: 3}
	img.Config.Shell, img.Config.OnBuild = []string{"/bin/ash"}, []string{"RUN x"}
	s := newStore(t, nil)
	load(t, s, img)
	got := get(t, s, "app:1")
	c := got.Config
	if c.User != "app" || c.StopSignal != "SIGQUIT" || c.WorkingDir != "/srv" || !slices.Equal(c.ExposedPorts, []string{"443/tcp", "80/tcp"}) ||
		!slices.Equal(c.Volumes, []string{"/data"}) || c.Healthcheck == nil || c.Healthcheck.Retries != 3 || c.Healthcheck.Interval != 5e9 ||
		!slices.Equal(c.Shell, []string{"/bin/ash"}) || !slices.Equal(c.OnBuild, []string{"RUN x"}) {
		t.Errorf("config %+v", c)
	}
	if len(got.History) != 2 || got.History[1].Size == 0 || got.History[0].CreatedBy != "imagetest" || got.Created.Year() != 2024 {
		t.Errorf("history %+v", got.History)
	}
}

func TestSaveAndLoadBack(t *testing.T) {
	s := newStore(t, nil)
	load(t, s, simple("one:1", "a"), simple("two:1", "a", "b"), simple("", "nameless"))
	if err := s.Tag(t.Context(), "one:1", "one:latest"); err != nil {
		t.Fatal(err)
	}
	list, _ := s.List(t.Context())
	refs := []string{"two:1"}
	for _, img := range list {
		if len(img.Tags) != 1 {
			refs = append(refs, img.ID) // the nameless one, and both tags of one
		}
	}
	var buf bytes.Buffer
	if err := s.Save(t.Context(), refs, &buf); err != nil {
		t.Fatal(err)
	}
	other := newStore(t, nil)
	if _, err := other.Load(t.Context(), bytes.NewReader(buf.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
	back, _ := other.List(t.Context())
	if len(back) != 3 {
		t.Fatalf("%d images came back", len(back))
	}
	for i := range back {
		if back[i].ID != list[i].ID || !slices.Equal(back[i].Tags, list[i].Tags) || !slices.Equal(back[i].Digests, list[i].Digests) || back[i].Manifest != list[i].Manifest {
			t.Errorf("saved %+v, came back %+v", list[i], back[i])
		}
	}
	buf.Reset()
	wantErr(t, s.Save(t.Context(), []string{"one:1", "gone:1"}, &buf), runtime.ErrNotFound, "gone:1")
	if buf.Len() > 0 {
		t.Error("something was written")
	}
}

// A pulled index of which one platform is here can be saved and loaded.
func TestSavePartialIndex(t *testing.T) {
	arm, amd := simple("", "arm"), simple("", "amd")
	arm.Arch = "arm64"
	reg := newRegistry(t, false)
	reg.push(t, "multi", "1", imagetest.BuildIndex(t, "", amd, arm))
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		s, other := newStore(t, nil), newStore(t, nil)
		if _, err := s.Pull(t.Context(), reg.host()+"/multi:1", runtime.PullOptions{Platform: platform}); err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := s.Save(t.Context(), []string{reg.host() + "/multi:1"}, &buf); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Load(t.Context(), &buf, nil); err != nil {
			t.Fatal(err)
		}
		if img := get(t, other, reg.host()+"/multi:1"); "linux/"+img.Architecture != platform {
			t.Errorf("%s came back as %s", platform, img.Architecture)
		}
	}
}

func TestTwoStores(t *testing.T) {
	a, b := newStore(t, nil), newStore(t, nil)
	load(t, a, simple("only-a:1", "x"))
	if list, _ := b.List(t.Context()); len(list) != 0 {
		t.Errorf("b sees %+v", list)
	}
	_, err := Open(Config{DataDir: a.cfg.DataDir})
	wantErr(t, err, runtime.ErrConflict, a.cfg.DataDir, "another daemon")
	for _, dir := range []string{"", "relative", "/with,comma", "/with:colon"} {
		_, err := Open(Config{DataDir: dir})
		wantErr(t, err, runtime.ErrInvalid)
	}
}

// Docker itself loads what Save writes, where it is running.
func TestDockerLoadsSaved(t *testing.T) {
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skipf("NOT RUN: no Docker daemon that could load what was saved: docker info: %v", err)
	}
	s := newStore(t, nil)
	load(t, s, imagetest.Busybox(t, "dhow-imagetest:save"))
	var buf bytes.Buffer
	if err := s.Save(t.Context(), []string{"dhow-imagetest:save"}, &buf); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "load")
	cmd.Stdin = &buf
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "dhow-imagetest:save") {
		t.Errorf("%s %v", out, err)
	}
	exec.Command("docker", "rmi", "dhow-imagetest:save").Run()
}

func TestUsersAreAskedForOnceAndTheirErrorStops(t *testing.T) {
	asked, fail := 0, error(nil)
	s := newStore(t, func(c *Config) {
		c.InUse = func() (map[string][]string, error) { asked++; return nil, fail }
	})
	load(t, s, simple("one:1", "1"), simple("two:1", "2"), simple("three:1", "3"))
	fail = errors.New("no list")
	if _, err := s.Prune(t.Context(), true, nil); !errors.Is(err, fail) {
		t.Errorf("prune: %v, want %v", err, fail)
	}
	if _, err := s.Remove(t.Context(), "one:1", true, true); !errors.Is(err, fail) {
		t.Errorf("remove: %v, want %v", err, fail)
	}
	asked, fail = 0, nil
	if r, err := s.Prune(t.Context(), true, nil); err != nil || len(r.Deleted) < 3 || asked != 1 {
		t.Errorf("prune: %+v, %v, after %d questions, want 1", r, err, asked)
	}
}
