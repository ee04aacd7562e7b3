package compose

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/schema"
)

// schemaNode is one node of the Compose Specification's JSON schema, as far as
// that schema uses the language. compose-go's own check stops at the first
// problem and does not know lines; see checker.
type schemaNode struct {
	Ref        string                 `json:"$ref"`
	Type       typeList               `json:"type"`
	Properties map[string]*schemaNode `json:"properties"`
	Patterns   map[string]*schemaNode `json:"patternProperties"`
	Additional *additional            `json:"additionalProperties"`
	Uneval     *bool                  `json:"unevaluatedProperties"`
	Items      *schemaNode            `json:"items"`
	OneOf      []*schemaNode          `json:"oneOf"`
	AllOf      []*schemaNode          `json:"allOf"`
	Enum       []any                  `json:"enum"`
	Minimum    *limit                 `json:"minimum"`
	Maximum    *limit                 `json:"maximum"`
	Pattern    string                 `json:"pattern"`
	Required   []string               `json:"required"`
	Defs       map[string]*schemaNode `json:"$defs"`

	pattern  *regexp.Regexp
	patterns []patternNode // of Patterns, sorted
}

type patternNode struct {
	re   *regexp.Regexp
	node *schemaNode
}

// typeList reads both "string" and ["string", "null"].
type typeList []string

func (t *typeList) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = typeList{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// limit reads numbers, also those written as text.
type limit float64

func (l *limit) UnmarshalJSON(data []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(data), `"`), 64)
	*l = limit(f)
	return err
}

// additional reads both false and a schema.
type additional struct {
	forbidden bool
	node      *schemaNode
}

func (a *additional) UnmarshalJSON(data []byte) error {
	var allowed bool
	if json.Unmarshal(data, &allowed) == nil {
		a.forbidden = !allowed
		return nil
	}
	return json.Unmarshal(data, &a.node)
}

// rootSchema is parsed once per process, on first use: it takes a millisecond.
var rootSchema = sync.OnceValues(func() (*schemaNode, error) {
	var root schemaNode
	if err := json.Unmarshal([]byte(schema.Schema), &root); err != nil {
		return nil, fmt.Errorf("compose schema: %w", err)
	}
	c := compiler{defs: root.Defs, done: map[*schemaNode]bool{}}
	if err := c.compile(&root); err != nil {
		return nil, fmt.Errorf("compose schema: %w", err)
	}
	return &root, nil
})

// compiler resolves references and patterns in place.
type compiler struct {
	defs map[string]*schemaNode
	done map[*schemaNode]bool
}

func (c *compiler) compile(n *schemaNode) error {
	if n == nil || c.done[n] {
		return nil
	}
	c.done[n] = true
	for i := range n.OneOf {
		n.OneOf[i] = c.target(n.OneOf[i])
	}
	if n.Items != nil {
		n.Items = c.target(n.Items)
	}
	for _, m := range []map[string]*schemaNode{n.Properties, n.Patterns} {
		for key, sub := range m {
			m[key] = c.target(sub)
		}
	}
	if n.Additional != nil && n.Additional.node != nil {
		n.Additional.node = c.target(n.Additional.node)
	}
	// `allOf` with `unevaluatedProperties: false` is how the schema composes
	// services and jobs: one flat mapping with the keys of all parts.
	for _, part := range n.AllOf {
		part = c.target(part)
		if err := c.compile(part); err != nil {
			return err
		}
		n.absorb(part)
	}
	if n.Pattern != "" {
		re, err := regexp.Compile(n.Pattern)
		if err != nil {
			return err
		}
		n.pattern = re
	}
	for _, key := range sortedKeys(n.Patterns) {
		re, err := regexp.Compile(key)
		if err != nil {
			return err
		}
		n.patterns = append(n.patterns, patternNode{re, n.Patterns[key]})
	}
	return c.compileParts(n)
}

func (c *compiler) compileParts(n *schemaNode) error {
	parts := slices.Clone(n.OneOf)
	parts = append(parts, n.Items)
	for _, m := range []map[string]*schemaNode{n.Properties, n.Patterns, n.Defs} {
		for _, key := range sortedKeys(m) {
			parts = append(parts, m[key])
		}
	}
	if n.Additional != nil {
		parts = append(parts, n.Additional.node)
	}
	for _, part := range parts {
		if err := c.compile(part); err != nil {
			return err
		}
	}
	return nil
}

// target follows $ref.
func (c *compiler) target(n *schemaNode) *schemaNode {
	for n != nil && n.Ref != "" {
		def, ok := c.defs[strings.TrimPrefix(n.Ref, "#/$defs/")]
		if !ok {
			return &schemaNode{}
		}
		n = def
	}
	return n
}

func (n *schemaNode) absorb(part *schemaNode) {
	n.Type = typeList{"object"}
	if n.Properties == nil {
		n.Properties = map[string]*schemaNode{}
	}
	for key, sub := range part.Properties {
		if _, ok := n.Properties[key]; !ok {
			n.Properties[key] = sub
		}
	}
	if n.Patterns == nil {
		n.Patterns = map[string]*schemaNode{}
	}
	for key, sub := range part.Patterns {
		n.Patterns[key] = sub
	}
	n.Required = append(n.Required, part.Required...)
	if n.Uneval != nil && !*n.Uneval && n.Additional == nil {
		n.Additional = &additional{forbidden: true}
	}
}

// lookup is the schema of a key; known is false when the mapping must not have it.
func (n *schemaNode) lookup(key string) (sub *schemaNode, known bool) {
	if sub, ok := n.Properties[key]; ok {
		return sub, true
	}
	for _, p := range n.patterns {
		if p.re.MatchString(key) {
			return p.node, true
		}
	}
	switch {
	case n.Additional == nil:
		return nil, true
	case n.Additional.forbidden:
		return nil, false
	}
	return n.Additional.node, true
}
