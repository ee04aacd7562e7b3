package stack

import "testing"

func TestRegistryOf(t *testing.T) {
	for image, want := range map[string]string{
		"redis": "docker.io", "redis:7": "docker.io", "library/redis": "docker.io", "docker.io/library/redis": "docker.io", "index.docker.io/x/y": "docker.io",
		"localhost/app": "localhost", "localhost:5000/app:1": "localhost:5000", "registry.example/a/b@sha256:00": "registry.example", "host:5000/a": "host:5000",
		"team/app.v2": "docker.io", "HOST/app": "HOST", "[::1]:5000/app": "[::1]:5000",
		"sha256:0123456789012345678901234567890123456789012345678901234567890123": "",
	} {
		if got := RegistryOf(image); got != want {
			t.Errorf("%s is at %q, want %q", image, got, want)
		}
	}
}

func TestPinSame(t *testing.T) {
	a, b := Pin{Digest: "d", ImageID: "i"}, Pin{Digest: "e", ImageID: "i"}
	if !a.Same(b) || !a.Same(Pin{Digest: "d"}) || a.Same(Pin{Digest: "e"}) || a.Same(Pin{}) || (Pin{}).Same(Pin{}) {
		t.Error("pins are compared wrongly")
	}
	c := ContainerSpec{Image: "x"}.Pinned(a)
	if c.Pin().None() || !c.Pin().Same(a) || !(ContainerSpec{}).Pin().None() {
		t.Errorf("pinned: %+v", c)
	}
}
