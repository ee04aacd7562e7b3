package compose

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// source is one parsed file.
type source struct {
	file    string // for errors
	abs     string
	dir     string // what its relative include and extends paths start from
	content []byte
	docs    []*yaml.Node      // roots of its documents
	env     map[string]string // for its variables
}

// locate finds the line of path in the file, 0 when it is not there. With
// exact, the last step has to exist too; otherwise the nearest parent counts.
func (s *source) locate(path string) (line int, rest string) {
	rest = path
	for _, doc := range s.docs {
		l, r := find(doc, path)
		if l > 0 && (line == 0 || len(r) < len(rest)) {
			line, rest = l, r
		}
	}
	return line, rest
}

// find walks from node along path ("services.web.ports[0]") as far as it goes.
// It returns the line reached and what is left of the path. A step into a list
// by name ("environment.KEY") finds the item "KEY", "KEY=..." or "KEY:...".
func find(node *yaml.Node, path string) (line int, rest string) {
	line, rest = node.Line, path
	for rest != "" {
		node = deref(node)
		next, at, left := step(node, rest)
		if next == nil {
			return line, rest
		}
		node, line, rest = next, at, left
	}
	return line, rest
}

// step makes one step of path inside node: the node reached, its line, and what is left of the path.
func step(node *yaml.Node, path string) (next *yaml.Node, line int, rest string) {
	switch node.Kind {
	case yaml.MappingNode:
		return stepMapping(node, path, 0)
	case yaml.SequenceNode:
		if index, left, ok := cutIndex(path); ok {
			if index < len(node.Content) {
				return node.Content[index], node.Content[index].Line, left
			}
			return nil, 0, path
		}
		for _, item := range node.Content {
			if item = deref(item); item.Kind != yaml.ScalarNode {
				continue
			}
			name := item.Value
			if i := strings.IndexAny(name, "=:"); i > 0 && name != path {
				name = name[:i]
			}
			if left, ok := cutKey(path, name); ok {
				return item, item.Line, left
			}
		}
	}
	return nil, 0, path
}

// stepMapping takes the longest key that path starts with: keys may contain dots.
func stepMapping(node *yaml.Node, path string, depth int) (next *yaml.Node, line int, rest string) {
	rest = path
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if left, ok := cutKey(path, key.Value); ok && (next == nil || len(left) < len(rest)) {
			next, line, rest = value, key.Line, left
		}
	}
	if next != nil || depth > 8 {
		return next, line, rest
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value != "<<" {
			continue
		}
		for _, merged := range merges(node.Content[i+1]) {
			if next, line, rest = stepMapping(merged, path, depth+1); next != nil {
				return next, line, rest
			}
		}
	}
	return nil, 0, path
}

// merges are the mappings behind a `<<` key.
func merges(value *yaml.Node) []*yaml.Node {
	value = deref(value)
	switch value.Kind {
	case yaml.MappingNode:
		return []*yaml.Node{value}
	case yaml.SequenceNode:
		var out []*yaml.Node
		for _, item := range value.Content {
			if item = deref(item); item.Kind == yaml.MappingNode {
				out = append(out, item)
			}
		}
		return out
	}
	return nil
}

// cutKey removes key from the start of path when a step ends there.
func cutKey(path, key string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, key)
	switch {
	case !ok || key == "":
		return path, false
	case rest == "" || rest[0] == '[':
		return rest, true
	case rest[0] == '.':
		return rest[1:], true
	}
	return path, false
}

// cutIndex removes "[3]" from the start of path.
func cutIndex(path string) (index int, rest string, ok bool) {
	if !strings.HasPrefix(path, "[") {
		return 0, path, false
	}
	number, rest, ok := strings.Cut(path[1:], "]")
	index, err := strconv.Atoi(number)
	return index, strings.TrimPrefix(rest, "."), ok && err == nil && index >= 0
}

// deref follows aliases; yaml refuses those that contain themselves, but not before values are decoded.
func deref(node *yaml.Node) *yaml.Node {
	for i := 0; i < 8 && node.Kind == yaml.AliasNode && node.Alias != nil; i++ {
		node = node.Alias
	}
	return node
}

// position finds the file and line of a path of the merged model. Later files
// win over earlier ones; what a service does not say itself may stand in the
// service that it extends.
func (l *load) position(path string) (file string, line int) {
	return l.positionIn(l.sources, path, 0)
}

func (l *load) positionIn(sources []*source, path string, depth int) (file string, line int) {
	best := path + " "
	for i := len(sources) - 1; i >= 0; i-- {
		at, rest := sources[i].locate(path)
		if at > 0 && len(rest) < len(best) {
			file, line, best = sources[i].file, at, rest
		}
	}
	if best == "" || depth > 8 {
		return file, line
	}
	if target, base, ok := l.extended(sources, path); ok {
		if f, n := l.positionIn(target, base, depth+1); n > 0 {
			return f, n
		}
	}
	return file, line
}

// extended translates a path inside a service to one inside the service that it extends.
func (l *load) extended(sources []*source, path string) ([]*source, string, bool) {
	for i := len(sources) - 1; i >= 0; i-- {
		for _, doc := range sources[i].docs {
			services := child(doc, "services")
			if services == nil {
				continue
			}
			after, ok := strings.CutPrefix(path, "services.")
			if !ok {
				return nil, "", false
			}
			svc, _, rest := step(services, after)
			if svc == nil || rest == "" {
				continue
			}
			ext := child(svc, "extends")
			if ext == nil {
				continue
			}
			name, file := extendsOf(ext)
			target := []*source{sources[i]}
			if file != "" {
				target = nil
				if s := l.byPath[join(sources[i].dir, file)]; s != nil {
					target = []*source{s}
				}
			}
			if name != "" && target != nil {
				return target, "services." + name + "." + rest, true
			}
		}
	}
	return nil, "", false
}

// child is the value of a key of a mapping, nil when there is none.
func child(node *yaml.Node, key string) *yaml.Node {
	node = deref(node)
	if node.Kind != yaml.MappingNode {
		return nil
	}
	next, _, rest := stepMapping(node, key, 0)
	if next == nil || rest != "" {
		return nil
	}
	return deref(next)
}

// extendsOf reads both forms of `extends`.
func extendsOf(node *yaml.Node) (service, file string) {
	if node.Kind == yaml.ScalarNode {
		return node.Value, ""
	}
	if n := child(node, "service"); n != nil {
		service = n.Value
	}
	if n := child(node, "file"); n != nil {
		file = n.Value
	}
	return service, file
}

var yamlLine = regexp.MustCompile(`\b(?:at )?line (\d+)(?:, column \d+)?:?\s*`)

// lineOf takes the line number out of a parser's message.
func lineOf(msg string) (line int, rest string) {
	msg = strings.TrimPrefix(msg, "yaml: ")
	m := yamlLine.FindStringSubmatchIndex(msg)
	if m == nil {
		return 0, msg
	}
	line, _ = strconv.Atoi(msg[m[2]:m[3]])
	return line, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(msg[:m[0]]), ":") + " " + msg[m[1]:])
}

// asErr is errors.As, for one line.
func asErr[T any](err error, target *T) bool { return errors.As(err, target) }
