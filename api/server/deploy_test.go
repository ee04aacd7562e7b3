package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// What an image means is decided on the node where a person deploys, and the
// logins come along to the one that leads. They are told to nobody.
func TestDeploymentIsPinnedWhereItIsAsked(t *testing.T) {
	f := newFleet(t, 3)
	mine := &runtime.Image{ID: "sha256:" + strings.Repeat("1", 64), Target: "sha256:" + strings.Repeat("2", 64), Platforms: []string{"linux/amd64"}, Tags: []string{"only:here"}}
	f.nodes[2].images.mu.Lock()
	f.nodes[2].images.byRef["only:here"] = mine
	f.nodes[2].images.mu.Unlock()
	body := `{"stack":{"name":"shop","services":{"a":{"name":"a","container":{"image":"only:here"}},"b":{"name":"b","container":{"image":"nowhere:1"}}}},
		"logins":{"docker.io":{"username":"ann","password":"hunter2"}},"pins":{"b":{"imageID":"sha256:forged"}}}`
	for i, m := range []*member{f.nodes[2], f.nodes[0]} {
		resp, said := m.ask(t, "PUT", "/dhow/v1/stacks/shop", body)
		if resp.StatusCode != http.StatusOK || strings.Contains(said, "hunter2") {
			t.Fatalf("%s: %s %s", m.id, resp.Status, said)
		}
		f.stacks.mu.Lock()
		d := f.stacks.deployed[i]
		f.stacks.mu.Unlock()
		if d.Logins["docker.io"] != (stack.RegistryAuth{Username: "ann", Password: "hunter2"}) {
			t.Errorf("%s: the logins did not come along: %d", m.id, len(d.Logins))
		}
		pin := d.Pins["a"]
		switch here := m == f.nodes[2]; {
		case d.Pins == nil || len(d.Pins["b"].ImageID) > 0:
			t.Errorf("%s: pins are %+v", m.id, d.Pins)
		case here && (pin.Digest != mine.Target || pin.ImageID != mine.ID || len(pin.Platforms) != 1), !here && !pin.None():
			t.Errorf("%s: pinned to %+v", m.id, pin)
		}
	}
	for _, path := range []string{"/dhow/v1/stacks", "/dhow/v1/stacks/shop"} {
		if _, said := f.nodes[1].ask(t, "GET", path, ""); strings.Contains(said, "hunter2") || !strings.Contains(said, "shop") {
			t.Errorf("%s: %s", path, said)
		}
	}
}
