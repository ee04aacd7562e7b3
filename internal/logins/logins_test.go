package logins

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func TestFor(t *testing.T) {
	bin := t.TempDir()
	helper := "#!/bin/sh\nread host\ncase $host in good.example) echo '{\"Username\":\"ann\",\"Secret\":\"pw\"}';; token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';; *) echo broken helper; exit 1;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if got, err := For(Path(), []string{"redis"}); len(got) > 0 || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	config := fmt.Sprintf(`{"auths":{"https://index.docker.io/v1/":{"auth":%q},"other.example":{"auth":%q}},"credHelpers":{"good.example":"fake","token.example":"fake","bad.example":"fake"}}`,
		base64.StdEncoding.EncodeToString([]byte("hub:h")), base64.StdEncoding.EncodeToString([]byte("o:o")))
	if err := os.WriteFile(Path(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := For(Path(), []string{"redis", "library/nginx:1", "good.example/a", "good.example/b", "token.example/c", "nologin.example/d", "bad.example/e", ""})
	want := map[string]stack.RegistryAuth{
		"docker.io": {Username: "hub", Password: "h"}, "good.example": {Username: "ann", Password: "pw"}, "token.example": {IdentityToken: "t"},
	}
	if !maps.Equal(got, want) {
		t.Errorf("logins of %d registries: %v", len(got), got)
	}
	if err == nil || !strings.Contains(err.Error(), "bad.example") || strings.Contains(err.Error(), "good.example") {
		t.Errorf("error is %v", err)
	}
	if a, ok, err := Get(Path(), "registry-1.docker.io"); !ok || err != nil || a.Username != "hub" {
		t.Errorf("the hub: %v, %v, %v", a, ok, err)
	}
	if _, ok, err := Get("", "x"); ok || err != nil {
		t.Errorf("no home: %v, %v", ok, err)
	}
}

// TestCredentialsOfAServiceWithoutHome: systemd starts services of root without HOME.
func TestCredentialsOfAServiceWithoutHome(t *testing.T) {
	account := homeDir()
	t.Setenv("HOME", "/somewhere")
	if got := homeDir(); got != "/somewhere" {
		t.Errorf("HOME is not used: %q", got)
	}
	os.Unsetenv("HOME")
	if got := homeDir(); got == "" || (os.Getuid() == 0 && got != account && got != "/root") {
		t.Errorf("without HOME: %q", got)
	}
}
