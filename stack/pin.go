package stack

import (
	"slices"
	"strings"
)

// Pin is the bytes that an image reference meant when a stack was applied. The
// zero value pins nothing.
type Pin struct {
	Digest    string   `json:"digest,omitempty"`    // of the index or manifest: for every platform
	ImageID   string   `json:"imageID,omitempty"`   // of the config: for one platform
	Platforms []string `json:"platforms,omitempty"` // that Digest is for, sorted; empty: not known
}

// None reports whether nothing is pinned.
func (p Pin) None() bool { return p.Digest == "" && p.ImageID == "" }

// Same reports whether two pins are of the same image. One image has several
// digests when it came as an archive here and from a registry there.
func (p Pin) Same(o Pin) bool {
	return p.Digest != "" && p.Digest == o.Digest || p.ImageID != "" && p.ImageID == o.ImageID
}

// Pin returns what c's image is pinned to.
func (c ContainerSpec) Pin() Pin {
	return Pin{Digest: c.Digest, ImageID: c.ImageID, Platforms: slices.Clone(c.Platforms)}
}

// Pinned is c with its image pinned.
func (c ContainerSpec) Pinned(p Pin) ContainerSpec {
	c.Digest, c.ImageID, c.Platforms = p.Digest, p.ImageID, slices.Clone(p.Platforms)
	return c
}

// RegistryOf is the host of the registry that an image reference names, by the
// rule of the field: the part before the first slash when it looks like a host.
// It is "" for an image ID.
func RegistryOf(image string) string {
	if hex, ok := strings.CutPrefix(image, "sha256:"); ok && len(hex) == 64 {
		return ""
	}
	host, _, ok := strings.Cut(image, "/")
	switch {
	case !ok, !strings.ContainsAny(host, ".:") && host != "localhost" && strings.ToLower(host) == host:
		return "docker.io"
	case host == "index.docker.io", host == "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
