package compose

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const page = "../../docs/compose.md"

const pageHead = `# Compose files

Every key of the Compose Specification, as of the version that dhow is built with, and what dhow does with it. A key is
*honoured*, or *refused* with file, line and reason: nothing is ignored silently. Where a key is honoured but not each of
its values, the values that are refused stand beside it.

This page is written by a test (` + "`go test ./stack/compose -run TestKeysPage -update`" + `) from the samples that are loaded
for each key; another test walks the specification's JSON schema and fails for a key that is not here.
`

// topKeys are those of the file itself. Their entries are in tables of their own.
var topKeys = []struct{ key, sample, says string }{
	{"name", "name: shop\nservices: {a: {image: busybox}}", "honoured"},
	{"version", "version: '3.8'\nservices: {a: {image: busybox}}", "obsolete: the specification gives it no meaning"},
	{"services", "services: {a: {image: busybox}}", "honoured"},
	{"networks", "services: {a: {image: busybox}}\nnetworks: {n: {}}", "honoured"},
	{"volumes", "services: {a: {image: busybox}}\nvolumes: {v: {}}", "honoured"},
	{"secrets", "services: {a: {image: busybox}}\nsecrets: {s: {environment: HOME}}", "honoured"},
	{"configs", "services: {a: {image: busybox}}\nconfigs: {c: {content: x}}", "honoured"},
	{"include", "include: [./base.yaml]", "honoured, with path, project_directory and env_file"},
	{"models", "services: {a: {image: busybox}}\nmodels: {m: {model: x}}", refused},
	{"jobs", "services: {a: {image: busybox}}\njobs: {j: {image: busybox, triggers: {}}}", refused},
	{"x-...", "services: {a: {image: busybox}}\nx-mine: {a: b}", "left to others; anchors in it work"},
}

var position = regexp.MustCompile(`^-:\d+: [^ ]+: |^-: |^-:\d+: `)

// refusal is why a file is refused, in one line; "" when it loads.
func refusal(t *testing.T, file string) string {
	t.Helper()
	dir := realDir(t)
	writeFiles(t, dir, map[string]string{"some.env": "A=1\n", "some.labels": "a=b\n", "secret.txt": "s", "base.yaml": "services:\n  b: {image: other, init: true}\n"})
	_, err := Load(context.Background(), Options{WorkingDir: dir, Files: []string{"-"}, Env: []string{"SET=1", "HOME=/root"}, ProjectName: "p", Stdin: []byte(file)})
	if err == nil {
		return ""
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return strings.ReplaceAll(strings.ReplaceAll(position.ReplaceAllString(first, ""), dir+"/", ""), "|", `\|`)
}

// notes are about keys whose samples alone would tell less.
var notes = map[string]string{
	"services.image":                                              "honoured",
	"services.build":                                              "accepted beside an image that is here or in a registry",
	"services.attach":                                             "honoured: `up` in the foreground does not follow its output",
	"services.env_file.format":                                    "honoured: raw, or the usual one",
	"services.env_file.required":                                  "honoured",
	"services.post_start.command":                                 "honoured",
	"services.pre_stop.command":                                   "honoured",
	"services.ports.app_protocol":                                 "kept; nothing depends on it yet",
	"services.deploy.labels":                                      "kept with the service",
	"services.networks.use_service_name_alias":                    "true is what happens; refused: false",
	"services.deploy.placement.constraints":                       "honoured: `==`, `!=`, `in (A, B)`, `not in (A, B)`, `exists`, `not exists` of node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME, engine.labels.NAME; and `service == NAME`, `service != NAME` (or STACK/NAME): only, or never, where a task of it is",
	"services.deploy.placement.preferences":                       "honoured: each level evenly over the values, whatever number of nodes has them",
	"services.deploy.placement.preferences.spread":                "honoured",
	"services.x-dhow.prefer_local":                                "honoured: published ports lead to the tasks of the node that was asked, as long as it has some that are ready",
	"services.x-dhow.sticky":                                      "honoured: all connections of a client, by its address, go to one task as long as it is ready",
	"services.x-dhow.exclusive":                                   "honoured: a node that has lost the cluster stops the service's tasks before they start elsewhere",
	"networks.x-dhow.forward":                                     "honoured: names in these domains are asked of these resolvers, by the nodes; a change remakes nothing",
	"volumes.labels":                                              "honoured; `dhow.scope: node` makes it one volume on each node, otherwise the tasks that use it go to the node that has it",
	"services.deploy.resources.reservations.devices":              "honoured for CDI devices: driver: cdi with device_ids",
	"services.deploy.resources.reservations.devices.capabilities": "accepted; the CDI name decides",
	"services.deploy.resources.reservations.devices.count":        "refused: name the devices with device_ids",
	"services.deploy.resources.reservations.devices.device_ids":   "honoured",
	"services.deploy.resources.reservations.devices.driver":       "honoured: cdi",
	"services.deploy.resources.reservations.devices.options":      "refused",
	"services.deploy.resources.reservations.generic_resources.discrete_resource_spec":       "honoured",
	"services.deploy.resources.reservations.generic_resources.discrete_resource_spec.kind":  "honoured",
	"services.deploy.resources.reservations.generic_resources.discrete_resource_spec.value": "honoured",
}

func TestKeysPage(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(pageHead)
	b.WriteString("\n## The file\n\n| key | |\n|---|---|\n")
	for _, k := range topKeys {
		says, why := k.says, refusal(t, k.sample)
		if (says == refused) != (why != "") {
			t.Errorf("%s: refused with %q, the page says %q", k.key, why, says)
		}
		if why != "" {
			says = "**refused**: " + why
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.key, says)
	}
	writeKeys(t, &b, "services", serviceSamples)
	for _, section := range sortedKeys(resourceSamples) {
		writeKeys(t, &b, section, resourceSamples[section])
	}
	want, err := os.ReadFile(page)
	if *update {
		err = os.WriteFile(page, b.Bytes(), 0o644)
		want = b.Bytes()
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("docs/compose.md is not what the samples say: run go test ./stack/compose -run TestKeysPage -update")
	}
}

func writeKeys(t *testing.T, b *bytes.Buffer, section string, samples []sample) {
	type row struct {
		honoured bool
		none     string
		refusals []string
	}
	rows := map[string]*row{}
	for _, s := range samples {
		if s.key == "x-dhow-nope" {
			continue
		}
		r := rows[s.key]
		if r == nil {
			r = &row{}
			rows[s.key] = r
		}
		switch {
		case s.effect == refused:
			r.refusals = append(r.refusals, refusal(t, fileWith(section, s.with)))
		case strings.HasPrefix(s.effect, "none: "):
			r.none = strings.TrimPrefix(s.effect, "none: ")
		default:
			r.honoured = true
		}
	}
	fmt.Fprintf(b, "\n## %s\n\n| key | |\n|---|---|\n", section)
	for _, key := range sortedKeys(rows) {
		r := rows[key]
		note := notes[section+"."+key]
		switch {
		case note == "" && !r.honoured && slices.ContainsFunc(r.refusals, func(s string) bool { return strings.HasPrefix(s, "unknown key") }):
			continue // known to the library only, not to the specification
		case note != "" && len(r.refusals) > 0 && r.honoured:
			fmt.Fprintf(b, "| `%s` | %s; refused: %s |\n", key, note, strings.Join(r.refusals, "; "))
		case note != "":
			fmt.Fprintf(b, "| `%s` | %s |\n", key, note)
		case r.honoured && len(r.refusals) > 0:
			fmt.Fprintf(b, "| `%s` | honoured; refused: %s |\n", key, strings.Join(r.refusals, "; "))
		case r.honoured:
			fmt.Fprintf(b, "| `%s` | honoured |\n", key)
		case r.none != "":
			fmt.Fprintf(b, "| `%s` | no effect: %s |\n", key, r.none)
		case slices.ContainsFunc(sortedKeys(rows), func(above string) bool {
			return strings.HasPrefix(key, above+".") && !rows[above].honoured && notes[section+"."+above] == ""
		}):
			continue // with the parent
		default:
			fmt.Fprintf(b, "| `%s` | **refused**: %s |\n", key, strings.Join(r.refusals, "; "))
		}
	}
}
