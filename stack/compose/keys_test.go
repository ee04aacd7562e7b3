package compose

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
)

// sample is a value for one key. The file with it either loads to a stack that
// differs from the one without it, or is refused at that key: nothing that
// compose-go knows may be ignored.
type sample struct {
	key    string // as compose-go's types have it: "ports.target"
	with   string // the service (or top-level entry) with the key
	base   string // the same without the key; "" is the plain one
	effect string // "stack" (default), "refused", or "none: reason"
}

// TestEveryServiceKey walks compose-go's types: a key without a sample fails.
func TestEveryServiceKey(t *testing.T) {
	for _, k := range keysOf(reflect.TypeFor[types.ServiceConfig](), "", 0) {
		i := slices.IndexFunc(serviceSamples, func(s sample) bool { return s.key == k })
		if i < 0 {
			t.Errorf("compose-go knows the key %s of a service: translate or refuse it, and add a sample", k)
		}
	}
	for _, s := range serviceSamples {
		t.Run(s.key, func(t *testing.T) { s.run(t, "services", plainService) })
	}
}

// TestEveryResourceKey does the same for what stands beside the services.
func TestEveryResourceKey(t *testing.T) {
	for section, typ := range map[string]reflect.Type{
		"networks": reflect.TypeFor[types.NetworkConfig](),
		"volumes":  reflect.TypeFor[types.VolumeConfig](),
		"secrets":  reflect.TypeFor[types.FileObjectConfig](),
		"configs":  reflect.TypeFor[types.FileObjectConfig](),
	} {
		for _, k := range keysOf(typ, "", 0) {
			if !slices.ContainsFunc(resourceSamples[section], func(s sample) bool { return s.key == k }) {
				t.Errorf("compose-go knows the key %s of %s: translate or refuse it, and add a sample", k, section)
			}
		}
		for _, s := range resourceSamples[section] {
			t.Run(section+"."+s.key, func(t *testing.T) { s.run(t, section, plainEntry(section)) })
		}
	}
}

// TestEverySchemaKey does the same for the keys of the specification's schema
// that compose-go's types do not show one by one.
func TestEverySchemaKey(t *testing.T) {
	known := map[string]bool{}
	for _, s := range serviceSamples {
		known["services.*."+s.key] = true
	}
	for section, list := range resourceSamples {
		for _, s := range list {
			known[section+".*."+s.key] = true
		}
	}
	refusedWhole := []string{"services.*.build.", "services.*.develop.", "services.*.pre_start.", "services.*.provider.", "services.*.gpus.",
		"services.*.models.", "services.*.credential_spec.", "jobs", "models", "include", "services.*.extends."}
	for _, p := range schema.AttributePaths() {
		path := strings.ReplaceAll(string(p), ".[]", "")
		if strings.Count(path, ".") < 2 || strings.HasSuffix(path, ".*") || strings.HasSuffix(path, ".external.name") ||
			slices.ContainsFunc(refusedWhole, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			continue
		}
		if !known[strings.ReplaceAll(path, "*.labels.*", "*.labels")] && !known[dropStars(path)] {
			t.Errorf("the specification has %s: translate or refuse it, and add a sample", path)
		}
	}
}

// dropStars removes the stars of inner maps: "services.*.ulimits.*.soft" is sampled as "ulimits.soft".
func dropStars(path string) string {
	section, rest, _ := strings.Cut(path, ".*.")
	return section + ".*." + strings.ReplaceAll(rest, ".*", "")
}

// keysOf lists the yaml keys of a struct, of structs in it too.
func keysOf(typ reflect.Type, prefix string, depth int) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || depth > 6 {
		return nil
	}
	var keys []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous:
			keys = append(keys, keysOf(f.Type, prefix, depth+1)...)
			continue
		case strings.Contains(options, "inline") || tag == "-" || !f.IsExported():
			continue
		case tag == "":
			tag = strings.ToLower(f.Name)
		}
		if prefix == "" && tag == "name" && typ == reflect.TypeFor[types.ServiceConfig]() {
			continue // filled in by compose-go
		}
		key := prefix + tag
		keys = append(keys, key)
		if !slices.Contains([]string{"build", "develop", "pre_start", "provider", "gpus", "models", "credential_spec", "extends"}, key) {
			keys = append(keys, keysOf(f.Type, key+".", depth+1)...)
		}
	}
	return keys
}

// run compares the stack with the key to the one without it.
func (s sample) run(t *testing.T, section, plain string) {
	dir := realDir(t)
	files := map[string]string{"some.env": "FROM_FILE=1\n", "some.labels": "from=file\n", "secret.txt": "s3cret", "base.yaml": "services:\n  b: {image: other, init: true}\n"}
	writeFiles(t, dir, files)
	load := func(entry string) (string, error) {
		p, err := Load(context.Background(), Options{
			WorkingDir: dir, Files: []string{"-"}, Env: []string{"SET=1"}, ProjectName: "p",
			Stdin: []byte(fileWith(section, entry)),
		})
		if err != nil {
			return "", err
		}
		data, err := json.Marshal(p.Stack)
		return string(data), err
	}
	base := s.base
	if base == "" {
		base = plain
	}
	without, err := load(base)
	if err != nil {
		t.Fatalf("without the key: %v", err)
	}
	with, err := load(s.with)
	switch {
	case s.effect == "refused":
		if err == nil {
			t.Fatalf("not refused")
		}
		want := section + ".x." + strings.Split(s.key, ".")[0]
		if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "-:") {
			t.Fatalf("refused without its place (%s): %v", want, err)
		}
	case err != nil:
		t.Fatal(err)
	case strings.HasPrefix(s.effect, "none: "):
		if with != without {
			t.Fatalf("has an effect after all:\n%s\n%s", without, with)
		}
	case with == without:
		t.Fatalf("has no effect:\n%s", with)
	}
}

// fileWith is a Compose file around one entry; what it may refer to is there.
func fileWith(section, entry string) string {
	service, extra := plainService, map[string]string{}
	if section == "services" {
		service = entry
	} else {
		extra[section] = "\n  x:\n    " + strings.ReplaceAll(entry, "\n", "\n    ")
		service += map[string]string{"networks": "\nnetworks: [x]", "volumes": "\nvolumes: [{type: volume, source: x, target: /x}]", "secrets": "\nsecrets: [x]", "configs": "\nconfigs: [x]"}[section]
	}
	return "services:\n  other: {image: other}\n  x:\n    " + strings.ReplaceAll(service, "\n", "\n    ") +
		"\nnetworks:\n  front: {}\n  net10: {ipam: {config: [{subnet: 10.9.0.0/24}]}}\n  net6: {enable_ipv6: true, ipam: {config: [{subnet: 'fd00:9::/64'}]}}" + extra["networks"] +
		"\nvolumes:\n  data: {}" + extra["volumes"] +
		"\nsecrets:\n  sec: {file: ./secret.txt}" + extra["secrets"] +
		"\nconfigs:\n  conf: {content: text}" + extra["configs"] + "\n"
}

// plainEntry is an entry beside the services without the key in question.
func plainEntry(section string) string {
	switch section {
	case "secrets":
		return "file: ./secret.txt"
	case "configs":
		return "content: x"
	}
	return none
}
