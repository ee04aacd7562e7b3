package compose

import (
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// forward reads the x-dhow section of a network: which resolvers know the names
// of a domain. Whether the values make sense is the stack's to check.
func (l *load) forward(path string, n types.NetworkConfig) map[string][]string {
	for _, key := range sortedKeys(n.Extensions) {
		if strings.HasPrefix(key, "x-dhow-") {
			l.fail(path+"."+key, "unknown key; dhow's own keys of a network are in x-dhow: forward")
		}
	}
	section, given := n.Extensions["x-dhow"]
	if !given {
		return nil
	}
	path += ".x-dhow"
	keys, ok := section.(map[string]any)
	if !ok {
		l.fail(path, "has to be a mapping, such as {forward: {corp.example: [10.0.0.53]}}")
		return nil
	}
	var out map[string][]string
	for _, key := range sortedKeys(keys) {
		switch {
		case key != "forward":
			l.fail(path+"."+key, "unknown key; x-dhow of a network has forward")
		case bool(n.External):
			l.fail(path+"."+key, "has no place in what is external: it is made elsewhere")
		default:
			out = l.domains(path+"."+key, keys[key])
		}
	}
	return out
}

// domains reads "domain: resolver" and "domain: [resolver, ...]".
func (l *load) domains(path string, section any) map[string][]string {
	list, ok := section.(map[string]any)
	if !ok {
		l.fail(path, "has to be a mapping of domains to resolvers, such as {corp.example: [10.0.0.53]}")
		return nil
	}
	out, seen := map[string][]string{}, map[string]bool{}
	for _, domain := range sortedKeys(list) {
		servers, ok := texts(list[domain])
		if !ok {
			l.fail(path+"."+domain, "has to be a list of addresses, such as [10.0.0.53]")
			continue
		}
		if name := strings.ToLower(strings.TrimSuffix(domain, ".")); seen[name] {
			l.fail(path+"."+domain, "is there twice")
		} else {
			seen[name], out[domain] = true, servers
		}
	}
	return out
}

// texts reads a text or a list of texts.
func texts(value any) ([]string, bool) {
	if one, ok := value.(string); ok {
		return []string{one}, true
	}
	list, ok := value.([]any)
	out := make([]string, 0, len(list))
	for _, item := range list {
		text, isText := item.(string)
		ok = ok && isText
		out = append(out, text)
	}
	return out, ok
}
