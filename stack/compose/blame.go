package compose

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// blame finds out what in the files made compose-go fail. compose-go stops at
// the first problem and mostly does not say where it is, so every key of every
// service is tried alone, then every item of a list that fails. This runs only
// when there is something wrong. It returns how many errors are known now;
// without a cause, one that cannot be placed is left out.
func (l *load) blame(ctx context.Context, cause error) (known int) {
	before := len(l.errs)
	for _, src := range l.sources {
		for _, doc := range src.docs {
			l.blameDoc(ctx, src, doc)
		}
	}
	if len(l.errs) == before && cause != nil {
		file, line, path := l.guess(cause.Error())
		l.errs = append(l.errs, &Error{File: file, Line: line, Path: path, Msg: l.tidy(cause)})
	}
	return len(l.errs)
}

func (l *load) blameDoc(ctx context.Context, src *source, doc *yaml.Node) {
	for _, section := range []string{"services", "networks", "volumes", "secrets", "configs"} {
		entries := child(doc, section)
		if entries == nil || entries.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(entries.Content); i += 2 {
			name, entry := entries.Content[i], deref(entries.Content[i+1])
			if entry.Kind != yaml.MappingNode {
				continue
			}
			for j := 0; j+1 < len(entry.Content); j += 2 {
				key, value := entry.Content[j], entry.Content[j+1]
				if key.Value != "extends" && key.Value != "<<" && !strings.HasPrefix(key.Value, "x-") {
					l.blameValue(ctx, src, []string{section, name.Value, key.Value}, key, value, "")
				}
			}
		}
	}
}

// blameValue tries one value alone, below the keys that lead to it; when it
// fails, its parts. at is the node that gives the line.
func (l *load) blameValue(ctx context.Context, src *source, keys []string, at, value *yaml.Node, path string) bool {
	if path == "" {
		path = strings.Join(keys, ".")
	}
	if l.bad[at] || l.bad[value] || l.bad[deref(value)] {
		return false
	}
	err := l.try(ctx, src, keys, value)
	if err == nil {
		return false
	}
	found := false
	switch n := deref(value); n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content) && len(keys) < 8; i += 2 {
			key := n.Content[i]
			found = l.blameValue(ctx, src, append(slices.Clone(keys), key.Value), key, n.Content[i+1], path+"."+key.Value) || found
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			one := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{item}}
			if err := l.try(ctx, src, keys, one); err != nil && !l.bad[item] {
				l.blamed(src, item, item, fmt.Sprintf("%s[%d]", path, i), err)
				found = true
			}
		}
	}
	if !found {
		l.blamed(src, at, value, path, err)
	}
	return true
}

func (l *load) blamed(src *source, at, value *yaml.Node, path string, err error) {
	l.bad[value] = true
	l.errs = append(l.errs, &Error{File: src.file, Line: at.Line, Path: path, Msg: l.tidy(err)})
}

// try loads a file that has nothing but one key.
func (l *load) try(ctx context.Context, src *source, keys []string, value *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("is not understood (%v)", r)
		}
	}()
	node := value
	for _, key := range slices.Backward(keys) {
		node = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{keyNode(key), node}}
	}
	data, err := yaml.Marshal(clone(node, l.bad, 0))
	if err != nil {
		return err
	}
	_, err = loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  src.dir,
		Environment: types.Mapping(src.env).Clone(),
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(src.dir, "one-key.yaml"), Content: data}},
	}, func(o *loader.Options) {
		o.SetProjectName(l.name, true)
		o.SkipValidation = true
		o.SkipConsistencyCheck = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.SkipInterpolation = l.opt.NoInterpolate
	})
	return err
}

func keyNode(name string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}
}

// clone copies a node without what is in bad, aliases replaced by what they stand for.
func clone(n *yaml.Node, bad map[*yaml.Node]bool, depth int) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil && depth < 100 {
		n, depth = n.Alias, depth+1
	}
	c := *n
	c.Anchor, c.Alias, c.Content = "", nil, nil
	if depth > 100 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if !bad[key] && !bad[value] && !bad[deref(value)] {
				c.Content = append(c.Content, clone(key, bad, depth+1), clone(value, bad, depth+1))
			}
		}
		return &c
	}
	for _, item := range n.Content {
		if !bad[item] && !bad[deref(item)] {
			c.Content = append(c.Content, clone(item, bad, depth+1))
		}
	}
	return &c
}

// pruned is the content of the main files without what is wrong in them.
func (l *load) pruned() map[string][]byte {
	out := map[string][]byte{}
	for _, src := range l.sources[:len(l.files)] {
		var data []byte
		for _, doc := range src.docs {
			text, err := yaml.Marshal(clone(doc, l.bad, 0))
			if err != nil {
				continue
			}
			data = append(append(data, "---\n"...), text...)
		}
		out[src.abs] = data
	}
	return out
}

// wholeEntriesBad reports whether a service, network, ... as such is wrong:
// without it the rest would look full of undefined references.
func (l *load) wholeEntriesBad() bool {
	return slices.ContainsFunc(l.errs, func(e *Error) bool {
		return e.Path == "" || strings.Count(e.Path, ".") < 2 && !strings.HasPrefix(e.Path, "x-") && strings.Contains("services networks volumes secrets configs include", strings.SplitN(e.Path, ".", 2)[0]) && !strings.HasPrefix(e.Msg, "unknown key")
	})
}

// guess finds the position of the first path that a message mentions.
func (l *load) guess(msg string) (file string, line int, path string) {
	for word := range strings.FieldsSeq(msg) {
		word = strings.Trim(word, `"':,`)
		if section, _, ok := strings.Cut(word, "."); ok && slices.Contains([]string{"services", "networks", "volumes", "secrets", "configs"}, section) {
			if file, line := l.position(word); line > 0 {
				return file, line, word
			}
		}
	}
	return l.sources[0].file, 0, ""
}

// where matches the places that compose-go puts before what it has to say.
var where = regexp.MustCompile(`^(?:error while interpolating )?'?(?:services|networks|volumes|secrets|configs)[\w.\[\]-]*'?:? `)

var notNumber = regexp.MustCompile(`strconv\.\w+: parsing ("[^"]*"): invalid syntax`)

// tidy takes out of compose-go's message what the error says anyway.
func (l *load) tidy(err error) string {
	msg := strings.NewReplacer("\n", " ", l.cwd+"/", "").Replace(err.Error())
	msg = strings.TrimPrefix(msg, "decoding failed due to the following error(s): ")
	msg = where.ReplaceAllString(strings.TrimSpace(msg), "")
	msg = where.ReplaceAllString(strings.TrimSpace(msg), "")
	msg = strings.TrimPrefix(msg, "failed to cast to expected type: ")
	msg = notNumber.ReplaceAllString(msg, "$1 is not a number")
	if msg != "" && (len(msg) == 1 || msg[1] < 'A' || msg[1] > 'Z') {
		msg = strings.ToLower(msg[:1]) + msg[1:]
	}
	return msg
}
