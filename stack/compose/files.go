package compose

import (
	"fmt"
	"io"
	"maps"
	"os"
	pathpkg "path"
	"strconv"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/dhow-project/dhow/stack"
)

// maxContent bounds one secret, config or profile; Swarm's limit is the same.
const maxContent = 500 << 10

// environment resolves env_file and environment, sorted.
func (l *load) environment(path string, c types.ContainerSpec) []string {
	vars := map[string]string{}
	own := c.Environment.Resolve(func(key string) (string, bool) { v, ok := l.env[key]; return v, ok })
	lookup := func(key string) (string, bool) {
		if v, ok := l.env[key]; ok {
			return v, true
		}
		if v := own[key]; v != nil {
			return *v, true
		}
		return "", false
	}
	for i, f := range c.EnvFiles {
		err := parseEnvFile(f.Path, f.Format, vars, lookup)
		if os.IsNotExist(err) && !bool(f.Required) {
			continue
		}
		if err != nil {
			at := fmt.Sprintf("%s.env_file[%d]", path, i)
			if !l.has(at) {
				at = path + ".env_file"
			}
			l.fail(at, "%s: %s", l.display(f.Path), reason(err))
		}
	}
	env := types.MappingWithEquals{}
	for key, value := range vars {
		env[key] = &value
	}
	maps.Copy(env, own)
	return envList(env)
}

// envList is KEY=VALUE, and KEY alone for what has no value, sorted.
func envList(m types.MappingWithEquals) []string {
	var out []string
	for _, key := range sortedKeys(m) {
		if m[key] == nil {
			out = append(out, key)
		} else {
			out = append(out, key+"="+*m[key])
		}
	}
	return out
}

func parseEnvFile(file, format string, vars map[string]string, lookup dotenv.LookupFn) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return dotenv.ParseWithFormat(io.LimitReader(f, maxFile), file, vars, lookup, format)
}

// labels resolves label_file and labels.
func (l *load) labels(path string, c types.ContainerSpec) map[string]string {
	labels := map[string]string{}
	lookup := func(key string) (string, bool) { v, ok := labels[key]; return v, ok }
	for i, file := range c.LabelFiles {
		if err := parseEnvFile(file, "", labels, lookup); err != nil {
			at := fmt.Sprintf("%s.label_file[%d]", path, i)
			if !l.has(at) {
				at = path + ".label_file"
			}
			l.fail(at, "%s: %s", l.display(file), reason(err))
		}
	}
	maps.Copy(labels, c.Labels)
	return copied(labels)
}

func secretRefs(list []types.ServiceSecretConfig) []types.FileReferenceConfig {
	out := make([]types.FileReferenceConfig, len(list))
	for i, r := range list {
		out[i] = types.FileReferenceConfig(r)
	}
	return out
}

func configRefs(list []types.ServiceConfigObjConfig) []types.FileReferenceConfig {
	out := make([]types.FileReferenceConfig, len(list))
	for i, r := range list {
		out[i] = types.FileReferenceConfig(r)
	}
	return out
}

// fileRefs translates a service's secrets or configs; dir is where a name without a path goes.
func (l *load) fileRefs(path, dir string, list []types.FileReferenceConfig) []stack.FileRef {
	var out []stack.FileRef
	for i, r := range list {
		ref := stack.FileRef{Source: r.Source, Target: r.Target}
		if ref.Target == "" {
			ref.Target = r.Source
		}
		if !pathpkg.IsAbs(ref.Target) {
			ref.Target = pathpkg.Join(dir, ref.Target)
		}
		for _, id := range []struct {
			key, text string
			to        *int
		}{{"uid", r.UID, &ref.UID}, {"gid", r.GID, &ref.GID}} {
			if id.text == "" {
				continue
			}
			n, err := strconv.ParseUint(id.text, 10, 31)
			if err != nil {
				l.failItem(path, i, matchSource(r.Source), "%s %q is not a number", id.key, id.text)
			}
			*id.to = int(n)
		}
		if r.Mode != nil {
			mode := uint32(*r.Mode)
			ref.Mode = &mode
		}
		out = append(out, ref)
	}
	return out
}

// secrets reads the secrets that services use.
func (l *load) secrets(p *types.Project) map[string]stack.Secret {
	out := map[string]stack.Secret{}
	for _, key := range sortedKeys(p.Secrets) {
		o := types.FileObjectConfig(p.Secrets[key])
		out[key] = stack.Secret{Name: o.Name, Key: key, External: bool(o.External), Data: l.content("secrets."+key, o), Labels: copied(o.Labels)}
	}
	return out
}

// configs reads the configs that services use.
func (l *load) configs(p *types.Project) map[string]stack.Config {
	out := map[string]stack.Config{}
	for _, key := range sortedKeys(p.Configs) {
		o := types.FileObjectConfig(p.Configs[key])
		out[key] = stack.Config{Name: o.Name, Key: key, External: bool(o.External), Data: l.content("configs."+key, o), Labels: copied(o.Labels)}
	}
	return out
}

// content is what a secret or config holds.
func (l *load) content(path string, o types.FileObjectConfig) []byte {
	refused := false
	for _, r := range []struct {
		key    string
		given  bool
		reason string
	}{
		{"external", bool(o.External), "is not honoured yet; use file, environment or content"},
		{"driver", o.Driver != "", "is not honoured"},
		{"driver_opts", len(o.DriverOpts) > 0, "is not honoured"},
		{"template_driver", o.TemplateDriver != "", "is not honoured"},
	} {
		if r.given {
			l.fail(path+"."+r.key, "%s", r.reason)
			refused = true
		}
	}
	if refused {
		return nil
	}
	var data []byte
	sources := 0
	if o.File != "" {
		sources++
		content, err := readLimited(o.File, maxContent)
		if err != nil {
			l.fail(path+".file", "%s: %s", l.display(o.File), reason(err))
		}
		data = content
	}
	if o.Environment != "" {
		sources++
		value, ok := l.env[o.Environment]
		if !ok {
			l.fail(path+".environment", "variable %s is not set", o.Environment)
		}
		data = []byte(value)
	} else if o.Content != "" {
		sources++
		data = []byte(o.Content)
	}
	if sources == 0 && l.has(path+".content") {
		return []byte{}
	}
	if sources != 1 {
		l.fail(path, "needs one of file, environment or content")
	}
	if len(data) > maxContent {
		l.fail(path, "is larger than %d KiB", maxContent>>10)
	}
	return data
}

// readLimited reads a regular file of at most limit bytes.
func readLimited(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file) // before opening: a named pipe would block
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("is not a regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("is larger than %d KiB", limit>>10)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
