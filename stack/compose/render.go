package compose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// YAML is the resolved file: merged, variables replaced, short forms written
// out, names and defaults filled in, each $ as $$, so that it can be loaded
// again. Secrets' content is never in it. Without interpolation $ stays: it
// stands for variables.
func (p *Project) YAML() ([]byte, error) {
	data, err := p.model.MarshalYAML()
	if err == nil && p.load != nil && bytes.ContainsRune(data, '$') {
		data, err = escaped(data)
	}
	if err != nil {
		return nil, fmt.Errorf("print the resolved file: %w", err)
	}
	return data, nil
}

// escaped doubles each $ of the values of a document. Keys are left alone:
// variables are not replaced in them.
func escaped(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	escapeValues(&doc)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func escapeValues(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Value = strings.ReplaceAll(n.Value, "$", "$$")
	}
	for i, child := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			escapeValues(child)
		}
	}
}

// JSON is the resolved file as JSON.
func (p *Project) JSON() ([]byte, error) {
	text, err := p.YAML()
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("print the resolved file: %w", err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("print the resolved file: %w", err)
	}
	return b.Bytes(), nil
}

// Services are the names of the services of the stack, sorted.
func (p *Project) Services() []string { return p.Stack.ServiceNames() }

// Images are the images of the services, in the order of Services, without repeats.
func (p *Project) Images() []string {
	var out []string
	seen := map[string]bool{}
	for _, name := range p.Services() {
		if image := p.Stack.Services[name].Container.Image; !seen[image] {
			seen[image] = true
			out = append(out, image)
		}
	}
	return out
}

// Hashes are "NAME HASH" lines, of the services named or of all.
func (p *Project) Hashes(names ...string) []string {
	if len(names) == 0 {
		names = p.Services()
	}
	var out []string
	for _, name := range names {
		if h := p.Stack.ServiceHash(name); h != "" {
			out = append(out, name+" "+h)
		}
	}
	return out
}

// Volumes are the keys of the volumes that the files define, sorted.
func (p *Project) Volumes() []string { return sortedKeys(p.model.Volumes) }

// Networks are the keys of the networks that the files define, sorted.
func (p *Project) Networks() []string { return sortedKeys(p.model.Networks) }

// Builds says whether the files tell how to build a service's image. That is
// not honoured yet: the image has to be there, or to be had from a registry.
func (p *Project) Builds(service string) bool {
	s, err := p.model.GetService(service)
	return err == nil && s.Build != nil
}
