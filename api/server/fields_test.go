package server

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// leaves are the paths of everything that a request of type t can set.
func leaves(t reflect.Type, path string, found map[string]reflect.Type) {
	for t.Kind() == reflect.Pointer && !isLeaf(t) {
		t = t.Elem()
	}
	if isLeaf(t) {
		found[path] = t
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			name, anonymous := jsonName(t.Field(i))
			if anonymous {
				leaves(t.Field(i).Type, path, found)
				continue
			}
			leaves(t.Field(i).Type, join(path, name), found)
		}
	case reflect.Slice, reflect.Map:
		leaves(t.Elem(), path, found)
	}
}

// TestEveryCreateFieldHasARule fails when Docker's types gain a field that is
// neither honoured nor refused, or lose one.
func TestEveryCreateFieldHasARule(t *testing.T) {
	found := map[string]reflect.Type{}
	leaves(reflect.TypeFor[createRequest](), "", found)
	delete(found, "HostConfig.PortBindings.HostIp") // part of PortBindings, which is one rule
	delete(found, "HostConfig.PortBindings.HostPort")
	found["HostConfig.PortBindings"] = nil
	// A mount's options of this kind have no fields: the type is refused.
	for path := range found {
		if _, has := createRules[path]; !has {
			t.Errorf("%s has no rule: map it in tospec.go or refuse it in fields.go", path)
		}
	}
	for path := range createRules {
		if _, has := found[path]; !has {
			t.Errorf("there is a rule for %s, which Docker's types do not have", path)
		}
	}
	update := map[string]reflect.Type{}
	leaves(reflect.TypeFor[updateRequest](), "", update)
	for path := range updatable {
		if _, has := update[path]; !has {
			t.Errorf("%s is updatable, but no such field", path)
		}
	}
}

// samples are values that need to be right, by path. For other fields any value will do.
var samples = map[string]any{
	"ExposedPorts": network.PortSet{network.MustParsePort("81/tcp"): {}}, "StopTimeout": 7, "Entrypoint": []string{"e"},
	"MacAddress": "02:42:ac:11:00:02", "Volumes": map[string]struct{}{"/anon": {}},
	"HostConfig.Binds": []string{"/a:/b:ro"}, "HostConfig.LogConfig.Type": "local",
	"HostConfig.LogConfig.Config": map[string]string{"max-size": "1m"}, "HostConfig.NetworkMode": container.NetworkMode("back"),
	"HostConfig.PortBindings":                    network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "8080"}}},
	"HostConfig.RestartPolicy.Name":              container.RestartPolicyMode("always"),
	"HostConfig.RestartPolicy.MaximumRetryCount": nil, // tested below with on-failure
	"HostConfig.VolumeDriver":                    nil, // tested below with a volume
	"HostConfig.CgroupnsMode":                    container.CgroupnsMode("private"), "HostConfig.IpcMode": container.IpcMode("host"),
	"HostConfig.PidMode": container.PidMode("host"), "HostConfig.UTSMode": container.UTSMode("host"), "HostConfig.UsernsMode": container.UsernsMode("host"),
	"HostConfig.Dns": []netip.Addr{netip.MustParseAddr("1.1.1.1")}, "HostConfig.ExtraHosts": []string{"h:1.2.3.4"},
	"HostConfig.Tmpfs": map[string]string{"/t": "size=1m"}, "HostConfig.Isolation": nil, // "default" changes nothing
	"HostConfig.Init": true, "HostConfig.OomKillDisable": true, "HostConfig.PidsLimit": int64(5),
	"HostConfig.DeviceRequests.Driver": nil, "HostConfig.DeviceRequests.DeviceIDs": nil, // tested below together
	"HostConfig.Mounts.Type": mount.TypeVolume, "HostConfig.Mounts.Source": "/other", "HostConfig.Mounts.Target": "/elsewhere",
}

// base is a request on which every mapped field can be changed alone.
func base() *createRequest {
	req := &createRequest{}
	req.Image = "busybox"
	req.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/src", Target: "/dst"}}
	req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{"bridge": {}}
	return req
}

func specJSON(t *testing.T, req *createRequest) string {
	t.Helper()
	spec, warnings, err := toSpec(req, surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(string(data), warnings)
}

// TestMappedFieldsChangeTheSpec sets each field alone: a mapped one must make
// another spec, a refused one an error with its name, an inert one nothing.
func TestMappedFieldsChangeTheSpec(t *testing.T) {
	plain := specJSON(t, base())
	paths := make([]string, 0, len(createRules))
	for path := range createRules {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		rule := createRules[path]
		sample, given := samples[path]
		if given && sample == nil {
			continue
		}
		t.Run(path, func(t *testing.T) {
			req := base()
			fitMount(req, path)
			if path == "NetworkDisabled" {
				req.NetworkingConfig.EndpointsConfig = nil // they contradict each other
			}
			if !setPath(reflect.ValueOf(req).Elem(), strings.Split(path, "."), sample) {
				t.Fatalf("cannot set %s", path)
			}
			_, _, err := toSpec(req, surroundings{})
			switch {
			case rule.refused != "":
				last := path[strings.LastIndex(path, ".")+1:]
				if err == nil || !strings.Contains(err.Error(), last) || statusOf(err) != 400 {
					t.Errorf("error %v", err)
				}
			case err != nil:
				t.Error(err)
			case rule.inert != "" && specJSON(t, req) != plain:
				t.Error("an inert field changes the spec")
			case rule.inert == "" && specJSON(t, req) == mountBase(t, path, plain):
				t.Error("a mapped field does not change the spec: it is ignored")
			}
		})
	}
}

// fitMount gives the mount the type whose options are tested.
func fitMount(req *createRequest, path string) {
	for part, typ := range map[string]mount.Type{".VolumeOptions.": mount.TypeVolume, ".TmpfsOptions.": mount.TypeTmpfs, ".ImageOptions.": mount.TypeImage} {
		if strings.Contains(path, part) {
			req.HostConfig.Mounts[0].Type = typ
			if typ == mount.TypeTmpfs {
				req.HostConfig.Mounts[0].Source = ""
			}
		}
	}
}

func mountBase(t *testing.T, path, plain string) string {
	if !strings.Contains(path, "Options.") {
		return plain
	}
	req := base()
	fitMount(req, path)
	return specJSON(t, req)
}

// setPath sets the field at path to sample, or to something when that is nil.
func setPath(v reflect.Value, path []string, sample any) bool {
	for v.Kind() == reflect.Pointer && (len(path) > 0 || !isLeaf(v.Type())) {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if len(path) == 0 {
		return setValue(v, sample)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name, anonymous := jsonName(v.Type().Field(i)); !anonymous && name == path[0] {
				return setPath(v.Field(i), path[1:], sample)
			}
		}
		for i := range v.NumField() { // an own field shadows these
			if _, anonymous := jsonName(v.Type().Field(i)); anonymous && setPath(v.Field(i), path, sample) {
				return true
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		return setPath(v.Index(0), path, sample)
	case reflect.Map:
		for _, k := range v.MapKeys() {
			return setPath(v.MapIndex(k), path, sample)
		}
	}
	return false
}

func setValue(v reflect.Value, sample any) bool {
	if sample != nil {
		s := reflect.ValueOf(sample)
		if v.Kind() == reflect.Pointer && s.Kind() != reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		v.Set(s.Convert(v.Type()))
		return true
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return setValue(v.Elem(), nil)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(time.Second))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(17)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return setValue(v.Index(0), nil)
	case reflect.Array:
		return setValue(v.Index(0), nil)
	case reflect.Map:
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		setValue(key, nil)
		setValue(elem, nil)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, elem)
	case reflect.Struct:
		if a, ok := v.Addr().Interface().(*netip.Addr); ok {
			*a = netip.MustParseAddr("10.0.0.9")
		}
	}
	return true
}

// TestDecodeStrict: a field that nobody knows is refused when it says something.
func TestDecodeStrict(t *testing.T) {
	for body, want := range map[string]string{
		`{"Image":"x","HostConfig":{"Nope":1}}`:                        "HostConfig.Nope: unknown field",
		`{"Image":"x","Nope":"y"}`:                                     "Nope: unknown field",
		`{"Image":"x","HostConfig":{"Mounts":[{"Nope":[1]}]}}`:         "HostConfig.Mounts[0].Nope: unknown field",
		`{"NetworkingConfig":{"EndpointsConfig":{"a":{"Nope":true}}}}`: "NetworkingConfig.EndpointsConfig.a.Nope: unknown field",
		`{"Image":7}`:               "Image: cannot read a JSON number as string",
		`{"Image":"x"} {}`:          "more than one JSON document",
		`{`:                         "unexpected EOF",
		`{"Image":"x","Nope":null}`: "", `{"Nope":{},"HostConfig":{"Nope":0,"More":"","Else":[],"And":false}}`: "",
		`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"80"}]},"Dns":["1.1.1.1"]},"ExposedPorts":{"80/tcp":{}}}`: "",
		`{"hostconfig":{"binds":["/a:/b"]}}`: "",
	} {
		err := decodeStrict([]byte(body), &createRequest{})
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
