package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
)

// maxFile bounds one Compose file, maxFiles how many one load may touch.
const (
	maxFile  = 4 << 20
	maxFiles = 256
)

// parse reads a file and keeps its nodes. What is wrong is recorded; nil then.
func (l *load) parse(file, dir string, env map[string]string) *source {
	if s := l.byPath[file]; s != nil && file != "-" {
		return s
	}
	src := &source{file: l.display(file), abs: file, dir: dir, env: env}
	l.sources = append(l.sources, src)
	l.byPath[file] = src
	content, err := l.read(file)
	switch {
	case err != nil:
		l.errs = append(l.errs, &Error{File: src.file, Msg: reason(err)})
		return nil
	case len(content) > maxFile:
		l.errs = append(l.errs, &Error{File: src.file, Msg: fmt.Sprintf("is larger than %d MiB", maxFile>>20)})
		return nil
	}
	src.content = content
	if err := src.decode(); err != nil {
		line, msg := lineOf(err.Error())
		l.errs = append(l.errs, &Error{File: src.file, Line: line, Msg: "not YAML: " + msg})
		return nil
	}
	return src.checkRoot(l)
}

func (s *source) decode() (err error) {
	defer func() { // the YAML library has panicked on garbage before
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(s.content))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		root := &doc
		if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
			root = root.Content[0]
		}
		s.docs = append(s.docs, root)
	}
}

// checkRoot wants a mapping at the top of every document.
func (s *source) checkRoot(l *load) *source {
	empty := true
	for _, doc := range s.docs {
		root := deref(doc)
		if root.Kind == yaml.MappingNode {
			empty = empty && len(root.Content) == 0
			continue
		}
		if root.ShortTag() == "!!null" {
			continue
		}
		l.errs = append(l.errs, &Error{File: s.file, Line: root.Line, Msg: "the file has to be a mapping with services, not " + kindName(root)})
		return nil
	}
	if empty {
		l.errs = append(l.errs, &Error{File: s.file, Msg: "the file is empty"})
		return nil
	}
	return s
}

// follow parses the files that others include or extend, for their positions
// and for the schema check; compose-go reads them again.
func (l *load) follow() {
	for i := 0; i < len(l.sources) && i < maxFiles; i++ {
		src := l.sources[i]
		for _, doc := range src.docs {
			l.followIncludes(src, doc)
			l.followExtends(src, doc)
		}
	}
	if len(l.sources) >= maxFiles {
		l.errs = append(l.errs, &Error{File: l.sources[0].file, Msg: fmt.Sprintf("includes or extends more than %d files", maxFiles)})
	}
}

func (l *load) followIncludes(src *source, doc *yaml.Node) {
	list := child(doc, "include")
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	for i, item := range list.Content {
		item = deref(item)
		paths, dir := l.includePaths(src, item)
		at := &Error{File: src.file, Line: item.Line, Path: fmt.Sprintf("include[%d]", i)}
		env, err := l.includeEnv(src, item, dir)
		if err != nil {
			at.Msg = err.Error()
			l.errs = append(l.errs, at)
			continue
		}
		for _, path := range paths {
			l.followFile(at, path, dir, env)
		}
	}
}

// includePaths reads both forms of an include: its files and the directory that its relative paths start from.
func (l *load) includePaths(src *source, item *yaml.Node) (paths []string, dir string) {
	var list []*yaml.Node
	if n := child(item, "path"); n != nil {
		list = []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			list = n.Content
		}
	} else if item.Kind == yaml.ScalarNode {
		list = []*yaml.Node{item}
	}
	for _, n := range list {
		if n = deref(n); n.Kind == yaml.ScalarNode && n.Value != "" {
			paths = append(paths, join(src.dir, l.expand(src, n.Value)))
		}
	}
	if len(paths) > 0 {
		dir = filepath.Dir(paths[0])
	}
	if n := child(item, "project_directory"); n != nil && n.Value != "" {
		dir = join(src.dir, l.expand(src, n.Value))
	}
	return paths, dir
}

// includeEnv is the environment of included files: the including one's over their own .env.
func (l *load) includeEnv(src *source, item *yaml.Node, dir string) (map[string]string, error) {
	var files []string
	if n := child(item, "env_file"); n != nil {
		list := []*yaml.Node{n}
		if n.Kind == yaml.SequenceNode {
			list = n.Content
		}
		for _, f := range list {
			if f = deref(f); f.Kind == yaml.ScalarNode && f.Value != "/dev/null" {
				files = append(files, join(src.dir, l.expand(src, f.Value)))
			}
		}
	} else if file := filepath.Join(dir, ".env"); dir != "" && isFile(file) && !slices.Contains(l.envFiles, file) {
		files = []string{file}
	}
	if len(files) == 0 {
		return src.env, nil
	}
	env := map[string]string{}
	for _, file := range files {
		vars, err := readEnvFile(file, func(key string) (string, bool) { v, ok := src.env[key]; return v, ok })
		if err != nil {
			return nil, err
		}
		maps.Copy(env, vars)
	}
	maps.Copy(env, src.env)
	return env, nil
}

func (l *load) followExtends(src *source, doc *yaml.Node) {
	services := child(doc, "services")
	if services == nil || services.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(services.Content); i += 2 {
		ext := child(services.Content[i+1], "extends")
		if ext == nil {
			continue
		}
		if _, file := extendsOf(ext); file != "" {
			at := &Error{File: src.file, Line: ext.Line, Path: "services." + services.Content[i].Value + ".extends"}
			path := join(src.dir, l.expand(src, file))
			l.followFile(at, path, filepath.Dir(path), src.env)
		}
	}
}

// followFile parses one more file. Only local ones are read.
func (l *load) followFile(at *Error, path, dir string, env map[string]string) {
	for _, remote := range []string{"http:", "https:", "git@", "ssh:", "oci:", "git:"} {
		if strings.Contains(path, "/"+remote) {
			at.Msg = "remote files are not read; copy the file here"
			l.errs = append(l.errs, at)
			return
		}
	}
	if l.byPath[path] != nil {
		return
	}
	if !isFile(path) {
		at.Msg = fmt.Sprintf("%s: no such file", l.display(path))
		l.errs = append(l.errs, at)
		return
	}
	l.parse(path, dir, env)
}

// expand replaces variables in a path; what cannot be replaced stays, the checker reports it.
func (l *load) expand(src *source, text string) string {
	v, err := template.SubstituteWithOptions(text, func(name string) (string, bool) { v, ok := src.env[name]; return v, ok }, template.WithoutLogging)
	if err != nil {
		return text
	}
	return v
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// check runs the schema over all files.
func (l *load) check() {
	root, err := rootSchema()
	if err != nil {
		l.errs = append(l.errs, &Error{Msg: err.Error()})
		return
	}
	for _, src := range l.sources {
		vars := &variables{src: src, off: l.opt.NoInterpolate, used: l.vars, unset: map[string]*Error{}}
		c := &checker{src: src, bad: l.bad, vars: vars, lone: len(l.sources) == 1}
		for _, doc := range src.docs {
			if deref(doc).Kind == yaml.MappingNode {
				c.report(c.value(doc, root, ""))
			}
		}
		l.errs = append(l.errs, c.found...)
		l.endless = l.endless || c.endless
		l.casts = l.casts || c.casts
		for _, key := range sortedKeys(vars.unset) {
			l.warn = append(l.warn, vars.unset[key].Error())
		}
	}
}
