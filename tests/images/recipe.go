package images

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"sort"
	"strings"
)

//go:embed assets
var assets embed.FS

// recipe says how one image is made.
type recipe struct {
	Ref      string   // "redis:7"
	From     string   // reference of the base; "" makes a root file system of its own
	Packages []string // Debian packages, without recommended ones
	Setup    string   // shell script run in the root file system after that
	Assets   string   // folder below assets/ copied to /; *.sh files become executable
	Config   config
}

// config is the OCI image's runtime configuration.
type config struct {
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	User         string              `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
}

// name is the archive's file name without .tar: the repository part of the reference.
func (r recipe) name() string {
	name, _, _ := strings.Cut(r.Ref, ":")
	return name
}

// key changes when the image must be made again.
func (r recipe) key() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(r); err != nil {
		return "", err
	}
	files, err := r.files()
	if err != nil {
		return "", err
	}
	for _, f := range files {
		fmt.Fprintf(h, "%s %x\n", f.path, sha256.Sum256(f.data))
	}
	if r.From != "" {
		base, err := find(r.From)
		if err != nil {
			return "", err
		}
		key, err := base.key()
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, key)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

type asset struct {
	path string // in the image, no leading slash
	data []byte
	mode fs.FileMode
}

func (r recipe) files() ([]asset, error) {
	if r.Assets == "" {
		return nil, nil
	}
	root, err := fs.Sub(assets, "assets/"+r.Assets)
	if err != nil {
		return nil, err
	}
	var out []asset
	err = fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(p, ".sh") || bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		out = append(out, asset{p, data, mode})
		return nil
	})
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out, err
}

func find(ref string) (recipe, error) {
	for _, r := range recipes {
		if r.Ref == ref || r.name() == ref {
			return r, nil
		}
	}
	return recipe{}, fmt.Errorf("image %s: no recipe; there are: %s", ref, strings.Join(Refs(), ", "))
}

// Refs lists the references of all images, the bases first.
func Refs() []string {
	refs := make([]string, 0, len(recipes))
	for _, r := range recipes {
		refs = append(refs, r.Ref)
	}
	return refs
}
