package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/dhow-project/dhow/stack"
)

// recreateCauses says what makes the running containers of old unfit for want.
// Names are shown; values only where they cannot be confidential.
func (d *differ) recreateCauses(old, want stack.Service) []string {
	var causes []string
	if old.Hash() != want.Hash() {
		causes = append(causes, specCauses(old, want)...)
	}
	causes = append(causes, d.resourceCauses(want)...)
	slices.Sort(causes)
	return slices.Compact(causes)
}

// resourceCauses says which of the networks, volumes, secrets and configs that
// a service uses change so that its containers have to be made again.
func (d *differ) resourceCauses(want stack.Service) []string {
	var causes []string
	for _, a := range want.Container.Networks {
		if d.remade[a.Network] {
			causes = append(causes, "network "+a.Network+" is made again")
		}
	}
	for _, m := range want.Container.Mounts {
		o, w := d.old.Volumes[m.Source], d.want.Volumes[m.Source]
		if m.Type == stack.MountVolume && o.Name != "" && o.Name != w.Name && w.Name != "" {
			causes = append(causes, fmt.Sprintf("volume %s is now %s", m.Source, w.Name))
		}
	}
	had := d.old.Services[want.Name].Container
	for _, r := range want.Container.Secrets {
		o, exists := d.old.Secrets[r.Source]
		if w, ok := d.want.Secrets[r.Source]; ok && exists && fileChanged(had.Secrets, r.Source, w.Sum, o.Hash(), w.Hash()) {
			causes = append(causes, "secret "+r.Source+" changed")
		}
	}
	for _, r := range want.Container.Configs {
		o, exists := d.old.Configs[r.Source]
		if w, ok := d.want.Configs[r.Source]; ok && exists && fileChanged(had.Configs, r.Source, w.Sum, o.Hash(), w.Hash()) {
			causes = append(causes, "config "+r.Source+" changed")
		}
	}
	return causes
}

// fileChanged tells whether the containers of a service have another content of
// a secret or config than is wanted: by the one that they were given, where that
// is known, else by what the stack had.
func fileChanged(given []stack.FileRef, source, sum, old, want string) bool {
	for _, r := range given {
		if r.Source == source && r.Sum != "" && sum != "" {
			return r.Sum != sum
		}
	}
	return old != want
}

// pinned is what names the bytes of c beside those of other: the image's ID where both have one.
func pinned(c, other stack.ContainerSpec) string {
	if c.ImageID != "" && other.ImageID != "" && c.ImageID != other.ImageID || c.Digest == "" {
		return c.ImageID
	}
	return c.Digest
}

// specCauses says what differs between two specs with different hashes.
func specCauses(old, want stack.Service) []string {
	o, w := old.Container, want.Container
	o.Secrets, w.Secrets = stack.Unpinned(o.Secrets), stack.Unpinned(w.Secrets) // of content, resourceCauses tells
	o.Configs, w.Configs = stack.Unpinned(o.Configs), stack.Unpinned(w.Configs)
	causes := change("image", o.Image, w.Image)
	if o.Image == w.Image && (o.ImageID != w.ImageID || o.Digest != w.Digest) {
		causes = append(causes, fmt.Sprintf("image %s is now %s, was %s", w.Image, short(pinned(w, o)), short(pinned(o, w))))
	}
	causes = append(causes, change("mode", orDefault(string(old.Mode), "replicated"), orDefault(string(want.Mode), "replicated"))...)
	causes = append(causes, change("container name", orDefault(old.ContainerName, "(none)"), orDefault(want.ContainerName, "(none)"))...)
	causes = append(causes, listCauses("environment", o.Env, w.Env)...)
	causes = append(causes, mapCauses("label", o.Labels, w.Labels)...)
	causes = append(causes, fieldCauses(reflect.ValueOf(o), reflect.ValueOf(w), "Image", "ImageID", "Digest", "Platforms", "Env", "Labels", "Pull")...)
	if !slices.Equal(old.Links, want.Links) {
		causes = append(causes, "links changed")
	}
	if len(causes) == 0 {
		causes = append(causes, "definition changed")
	}
	return causes
}

// fieldCauses names the fields of two structs of one type that differ.
func fieldCauses(old, want reflect.Value, skip ...string) []string {
	var causes []string
	for i := range old.NumField() {
		name := old.Type().Field(i).Name
		o, w := old.Field(i), want.Field(i)
		switch {
		case slices.Contains(skip, name) || sameField(name, o, w):
		case name == "Resources":
			causes = append(causes, fieldCauses(o, w, "ReservedNanoCPUs", "ReservedMemory", "Generic")...)
		default:
			causes = append(causes, words(name)+" changed")
		}
	}
	return causes
}

// sameField treats nil and empty alike, but for the fields where they differ.
func sameField(name string, old, want reflect.Value) bool {
	switch name {
	case "Entrypoint", "Command", "MaskedPaths", "ReadonlyPaths":
		return reflect.DeepEqual(old.Interface(), want.Interface())
	}
	return same(old.Interface(), want.Interface())
}

// same compares what JSON shows: the state keeps specs as JSON, which does not
// tell most nil lists from empty ones.
func same(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if k := va.Kind(); (k == reflect.Slice || k == reflect.Map) && va.Len() == 0 && vb.Len() == 0 {
		return true
	}
	if reflect.DeepEqual(a, b) {
		return true
	}
	ja, errA := json.Marshal(a)
	jb, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(ja, jb)
}

// words turns a field's name into words: "StopGrace" is "stop grace", "PIDMode" is "pid mode".
func words(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// updateCauses says what differs without making running containers unfit.
func updateCauses(old, want stack.Service) []string {
	var causes []string
	for _, c := range []struct {
		word string
		same bool
	}{
		{"depends_on", same(old.DependsOn, want.DependsOn)},
		{"deploy", same(old.Deploy, want.Deploy)},
		{"profiles", same(old.Profiles, want.Profiles)},
		{"service labels", equal(old.Labels, want.Labels)},
		{"pull policy", old.Container.Pull == want.Container.Pull},
		{"reservations", old.Container.Resources.ReservedNanoCPUs == want.Container.Resources.ReservedNanoCPUs &&
			old.Container.Resources.ReservedMemory == want.Container.Resources.ReservedMemory &&
			maps.Equal(old.Container.Resources.Generic, want.Container.Resources.Generic)},
		{"max concurrent", old.MaxConcurrent == want.MaxConcurrent},
		{"build", old.Build == want.Build},
		{"attach", old.NoAttach == want.NoAttach},
	} {
		if !c.same {
			causes = append(causes, c.word+" changed")
		}
	}
	return causes
}

// networkUpdates says what of a network changes in place.
func networkUpdates(old, want stack.Network) []string {
	causes := mapCauses("label", old.Labels, want.Labels)
	causes = append(causes, change("attachable", old.Attachable, want.Attachable)...)
	return append(causes, mapCauses("forwarded domain", joined(old.Forward), joined(want.Forward))...)
}

func joined(in map[string][]string) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[k] = strings.Join(v, " ")
	}
	return out
}

// Remade reports whether a network with another definition is made again.
func Remade(old, want stack.Network) bool { return len(networkCauses(old, want)) > 0 }

// networkCauses says why a network has to be made again; what networkUpdates looks at can change in place.
func networkCauses(old, want stack.Network) []string {
	causes := change("name", old.Name, want.Name)
	causes = append(causes, change("external", old.External, want.External)...)
	if old.External && want.External {
		return causes
	}
	causes = append(causes, change("driver", orDefault(old.Driver, "bridge"), orDefault(want.Driver, "bridge"))...)
	causes = append(causes, mapCauses("driver option", old.DriverOpts, want.DriverOpts)...)
	causes = append(causes, change("internal", old.Internal, want.Internal)...)
	causes = append(causes, change("enable_ipv4", old.EnableIPv4 == nil || *old.EnableIPv4, want.EnableIPv4 == nil || *want.EnableIPv4)...)
	causes = append(causes, change("enable_ipv6", old.EnableIPv6, want.EnableIPv6)...)
	causes = append(causes, change("ipam driver", orDefault(old.IPAMDriver, "default"), orDefault(want.IPAMDriver, "default"))...)
	causes = append(causes, mapCauses("ipam option", old.IPAMOpts, want.IPAMOpts)...)
	if !slices.EqualFunc(old.Subnets, want.Subnets, func(a, b stack.Subnet) bool {
		return a.CIDR == b.CIDR && a.Gateway == b.Gateway && a.Range == b.Range && equal(a.Aux, b.Aux)
	}) {
		causes = append(causes, "subnets "+subnets(old)+" -> "+subnets(want))
	}
	return causes
}

func subnets(n stack.Network) string {
	if len(n.Subnets) == 0 {
		return "(any)"
	}
	list := make([]string, len(n.Subnets))
	for i, s := range n.Subnets {
		list[i] = s.CIDR
	}
	return strings.Join(list, ",")
}

// change is one cause when a and b differ, else none.
func change[T comparable](what string, a, b T) []string {
	if a == b {
		return nil
	}
	return []string{fmt.Sprintf("%s %v -> %v", what, a, b)}
}

// mapCauses names the keys that were added, removed or changed; never values.
func mapCauses(what string, old, want map[string]string) []string {
	var causes []string
	for _, key := range sortedKeys(old, want) {
		o, had := old[key]
		w, has := want[key]
		switch {
		case !had:
			causes = append(causes, what+" "+key+" added")
		case !has:
			causes = append(causes, what+" "+key+" removed")
		case o != w:
			causes = append(causes, what+" "+key+" changed")
		}
	}
	return causes
}

// listCauses is mapCauses for KEY=VALUE lists.
func listCauses(what string, old, want []string) []string {
	asMap := func(list []string) map[string]string {
		m := map[string]string{}
		for _, kv := range list {
			key, _, _ := strings.Cut(kv, "=")
			m[key] = kv
		}
		return m
	}
	causes := mapCauses(what, asMap(old), asMap(want))
	if len(causes) == 0 && !slices.Equal(old, want) {
		causes = []string{what + " reordered"}
	}
	return causes
}

func equal(a, b map[string]string) bool { return maps.Equal(a, b) }

func join(causes []string) string { return strings.Join(causes, "; ") }

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// short is the first 12 digits of an image ID.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 {
		id = id[:12]
	}
	return orDefault(id, "(not pinned)")
}
