package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds the walk through one file, aliases counted each time: a few
// lines of nested anchors would otherwise expand without end.
const maxNodes = 100_000

// maxDepth bounds how deep values lie in one another.
const maxDepth = 100

// checker walks one file, after variables were replaced, along the schema. It
// finds every problem, with its line, where compose-go stops at the first.
type checker struct {
	src     *source
	bad     map[*yaml.Node]bool // values (or keys) that a second look at the file has to leave out
	found   Errors
	visited int
	depth   int
	endless bool // a bound was reached: the file must not be expanded any further
	casts   bool // text stands where a number or a boolean belongs
	lone    bool // this is the only file: required keys cannot come from another one
	vars    *variables
}

// fault is a problem that may still be dismissed: inside oneOf only the best branch counts.
type fault struct {
	path, msg string
	line      int
	node      *yaml.Node
	typed     bool // the value's type itself does not fit
}

func (c *checker) report(faults []fault) {
	for _, f := range faults {
		c.bad[f.node] = true
		c.found = append(c.found, &Error{File: c.src.file, Line: f.line, Path: f.path, Msg: f.msg})
	}
}

// value checks one node against one schema node.
func (c *checker) value(n *yaml.Node, s *schemaNode, path string) []fault {
	at := n
	n = deref(n)
	faults, ok := c.enter(at)
	defer c.leave()
	if !ok {
		return faults
	}
	if n.Tag == "!reset" || s == nil {
		return c.variablesOnly(n, path)
	}
	if len(s.OneOf) > 0 {
		return c.oneOf(at, s, path)
	}
	switch n.Kind {
	case yaml.MappingNode:
		if !s.allows("object") {
			return typeFault(at, s.Type, path)
		}
		return c.mapping(n, s, path)
	case yaml.SequenceNode:
		if !s.allows("array") {
			return typeFault(at, s.Type, path)
		}
		return c.sequence(n, s, path)
	case yaml.ScalarNode:
		return c.scalar(n, at, s, path)
	}
	return nil
}

// enter counts a value and how deep it lies; not ok when a bound is reached, which is said once.
func (c *checker) enter(at *yaml.Node) (faults []fault, ok bool) {
	c.depth++
	c.visited++
	if c.visited <= maxNodes && c.depth <= maxDepth {
		return nil, true
	}
	if !c.endless {
		c.endless = true
		faults = []fault{{"", fmt.Sprintf("the file has more than %d values, aliases counted each time, or more than %d inside one another", maxNodes, maxDepth), at.Line, at, false}}
	}
	return faults, false
}

func (c *checker) leave() { c.depth-- }

func (s *schemaNode) allows(kind string) bool {
	return len(s.Type) == 0 || slices.Contains(s.Type, kind)
}

// oneOf takes the branch that fits, or the complaints of the one that comes closest.
func (c *checker) oneOf(n *yaml.Node, s *schemaNode, path string) []fault {
	var best []fault
	var types []string
	for _, branch := range s.OneOf {
		faults := c.value(n, branch, path)
		if len(faults) == 0 {
			return nil
		}
		if faults[0].typed && faults[0].path == path {
			types = append(types, branch.Type...)
			continue
		}
		if best == nil || len(faults) < len(best) {
			best = faults
		}
	}
	if best != nil {
		return best
	}
	return typeFault(n, types, path)
}

func (c *checker) mapping(n *yaml.Node, s *schemaNode, path string) []fault {
	var faults []fault
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		sub := joinPath(path, name)
		if first, dup := seen[name]; dup {
			faults = append(faults, fault{sub, fmt.Sprintf("given twice, first in line %d", first), key.Line, key, false})
			continue
		}
		seen[name] = key.Line
		if name == "<<" && key.Tag != "!!str" {
			entered, ok := c.enter(value)
			faults = append(faults, entered...)
			for _, merged := range merges(value) {
				if !ok {
					break
				}
				faults = append(faults, c.mapping(merged, &schemaNode{Properties: s.Properties, patterns: s.patterns, Additional: s.Additional}, path)...)
			}
			c.leave()
			continue
		}
		if key.Kind != yaml.ScalarNode {
			faults = append(faults, fault{path, "keys have to be text", key.Line, key, false})
			continue
		}
		schema, known := s.lookup(name)
		if !known {
			faults = append(faults, fault{sub, "unknown key" + suggestion(name, s.Properties), key.Line, key, false})
			continue
		}
		faults = append(faults, c.value(value, schema, sub)...)
	}
	for _, name := range s.Required {
		if c.lone && child(n, name) == nil {
			faults = append(faults, fault{path, "lacks " + name, n.Line, n, false})
		}
	}
	return faults
}

func (c *checker) sequence(n *yaml.Node, s *schemaNode, path string) []fault {
	var faults []fault
	for i, item := range n.Content {
		faults = append(faults, c.value(item, s.Items, fmt.Sprintf("%s[%d]", path, i))...)
	}
	return faults
}

// scalar checks a value as it is once variables are replaced.
func (c *checker) scalar(n, at *yaml.Node, s *schemaNode, path string) []fault {
	text, err := c.vars.substitute(n, path)
	if err != nil {
		return []fault{{path, err.Error(), at.Line, at, false}}
	}
	kind := scalarKind(n)
	if !s.fits(kind, text) {
		return typeFault(at, s.Type, path)
	}
	if kind == "string" && s.casts() && readsAsOther(text) {
		c.casts = true
	}
	switch {
	case len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(v any) bool { return fmt.Sprint(v) == text }):
		return []fault{{path, fmt.Sprintf("%q is none of %s", text, enumList(s.Enum)), at.Line, at, false}}
	case s.pattern != nil && kind == "string" && !s.pattern.MatchString(text):
		return []fault{{path, fmt.Sprintf("%q is not valid here", text), at.Line, at, false}}
	}
	if msg := portRange(path, text); msg != "" {
		return []fault{{path, msg, at.Line, at, false}}
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if s.Minimum != nil && f < float64(*s.Minimum) {
			return []fault{{path, fmt.Sprintf("%s is less than %v", text, float64(*s.Minimum)), at.Line, at, false}}
		}
		if s.Maximum != nil && f > float64(*s.Maximum) {
			return []fault{{path, fmt.Sprintf("%s is more than %s", text, strconv.FormatFloat(float64(*s.Maximum), 'f', -1, 64)), at.Line, at, false}}
		}
	}
	return nil
}

// fits reports whether a scalar can stand where the schema wants one of its
// types. Text that reads as a number or a boolean passes for one: that is what
// variables leave behind.
func (s *schemaNode) fits(kind, text string) bool {
	if len(s.Type) == 0 || slices.Contains(s.Type, kind) {
		return true
	}
	for _, want := range s.Type {
		switch want {
		case "number":
			_, notFloat := strconv.ParseFloat(text, 64)
			_, notInt := strconv.ParseInt(text, 0, 64) // 0o1777 is one too
			if notFloat == nil || notInt == nil {
				return true
			}
		case "integer":
			if _, err := strconv.ParseInt(text, 0, 64); err == nil {
				return true
			}
		case "boolean":
			if kind == "string" && readsAsOther(text) {
				return true
			}
		}
	}
	return false
}

// casts reports whether compose-go may turn text into a number or a boolean
// here. Where null is fine too are the values of environment, labels and the like.
func (s *schemaNode) casts() bool {
	return !slices.Contains(s.Type, "null") && slices.ContainsFunc(s.Type, func(t string) bool { return t != "string" })
}

// readsAsOther reports whether text could be a number or a boolean.
func readsAsOther(text string) bool {
	if text == "" || len(text) > 32 {
		return false
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return true
	}
	_, isInt := strconv.ParseInt(text, 0, 64)
	return isInt == nil || slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(text))
}

func scalarKind(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!int":
		return "integer"
	case "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	case "!!null":
		return "null"
	}
	return "string"
}

// variablesOnly looks for variables where the schema says nothing (x- keys).
func (c *checker) variablesOnly(n *yaml.Node, path string) []fault {
	switch n.Kind {
	case yaml.ScalarNode:
		if _, err := c.vars.substitute(n, path); err != nil {
			return []fault{{path, err.Error(), n.Line, n, false}}
		}
	case yaml.MappingNode:
		var faults []fault
		for i := 0; i+1 < len(n.Content); i += 2 {
			faults = append(faults, c.value(n.Content[i+1], nil, joinPath(path, n.Content[i].Value))...)
		}
		return faults
	case yaml.SequenceNode:
		var faults []fault
		for i, item := range n.Content {
			faults = append(faults, c.value(item, nil, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return faults
	}
	return nil
}

func typeFault(n *yaml.Node, types []string, path string) []fault {
	return []fault{{path, "has to be " + typeNames(types) + ", not " + kindName(deref(n)), n.Line, n, true}}
}

func typeNames(types []string) string {
	var names []string
	for _, t := range types {
		switch t {
		case "object":
			t = "a mapping"
		case "array":
			t = "a list"
		case "string":
			t = "text"
		case "integer":
			t = "a whole number"
		case "number":
			t = "a number"
		case "boolean":
			t = "true or false"
		case "null":
			continue
		}
		if !slices.Contains(names, t) {
			names = append(names, t)
		}
	}
	if len(names) == 0 {
		return "empty"
	}
	return strings.Join(names, " or ")
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch scalarKind(n) {
	case "integer", "number":
		return "the number " + n.Value
	case "null":
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

func enumList(values []any) string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = fmt.Sprint(v)
	}
	return strings.Join(list, ", ")
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// suggestion is "; did you mean X?" when a known key is one slip away.
func suggestion(name string, known map[string]*schemaNode) string {
	if len(name) < 3 {
		return ""
	}
	for _, key := range sortedKeys(known) {
		if distance(name, key) <= min(2, len(key)/2) {
			return "; did you mean " + key + "?"
		}
	}
	return ""
}

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// maxPorts bounds one range of ports: each port is a rule of its own on the node.
const maxPorts = 4096

// portRange says what is wrong with the length of a range of ports, in their short form.
func portRange(path, text string) string {
	list, _, isItem := cutLastIndex(path)
	if !isItem || !strings.HasSuffix(list, ".ports") && !strings.HasSuffix(list, ".expose") {
		return ""
	}
	target, _, _ := strings.Cut(text[strings.LastIndexByte(text, ':')+1:], "/")
	first, last, isRange := strings.Cut(target, "-")
	from, errFrom := strconv.Atoi(first)
	to, errTo := strconv.Atoi(last)
	if isRange && errFrom == nil && errTo == nil && to-from >= maxPorts {
		return fmt.Sprintf("%d ports are more than the %d that one range can have", to-from+1, maxPorts)
	}
	return ""
}
