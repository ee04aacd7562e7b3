package compose

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/dhow-project/dhow/stack"
)

// Options say what to load.
type Options struct {
	Files         []string // -f; "-" is Stdin; empty: COMPOSE_FILE, then compose.yaml in the working directory or above
	ProjectDir    string   // --project-directory
	ProjectName   string   // -p
	EnvFiles      []string // --env-file; empty: COMPOSE_ENV_FILES, then .env of the project directory
	Env           []string // process environment, KEY=VALUE
	Profiles      []string // --profile; empty: COMPOSE_PROFILES
	Services      []string // only these and what they need, their profiles enabled; empty: all
	WorkingDir    string   // where to look for files; empty: the process's
	Stdin         []byte   // content of the file "-"; nil: the process's
	NoInterpolate bool     // leave variables as they are; for printing only
}

// Project is a loaded stack and what `config` prints of it.
type Project struct {
	Stack     stack.Stack
	Warnings  []string   // "compose.yaml:3: ...: variable TAG is not set, it counts as empty"
	Variables []Variable // by name
	Profiles  []string   // that the files mention, sorted
	Env       []string   // KEY=VALUE, sorted: what variables are replaced from

	model *types.Project
	load  *load // for Place; nil without interpolation
}

// load is one run of Load.
type load struct {
	*settings
	sources []*source          // main files in order, then what they include or extend
	byPath  map[string]*source // by absolute path
	errs    Errors
	bad     map[*yaml.Node]bool // see checker
	endless bool                // see checker
	casts   bool                // see checker
	vars    map[string]Variable
	warn    []string
}

// Load reads, checks and translates the files of a stack. What is wrong with
// the files comes back as Errors, all of it; other errors are about reaching them.
func Load(ctx context.Context, opt Options) (*Project, error) {
	l, err := prepare(opt)
	if err != nil {
		return nil, err
	}
	l.check()
	model := l.model(ctx)
	if model == nil || opt.NoInterpolate && len(l.errs) > 0 {
		return nil, l.result()
	}
	p := &Project{model: model, Warnings: l.warn, Variables: l.variables(), Profiles: l.profilesOf(model), Env: environ(l.env)}
	if opt.NoInterpolate {
		return p, nil // values are not typed yet: there is nothing to translate
	}
	p.Stack, p.Warnings = l.translate(model), l.warn
	if len(l.errs) > 0 {
		return nil, l.result()
	}
	p.load = l
	return p, nil
}

// Place says where in the files problems are that somebody else found in
// p.Stack, as Errors.
func (p *Project) Place(problems stack.Problems) error {
	if p.load == nil {
		return problems
	}
	l := *p.load
	l.errs = nil
	l.placeAll(p.Stack, problems)
	return l.result()
}

// Name is the project's name, found without loading everything: `ps`, `logs` or
// `down` need no more. When -p or the environment say the name, the files need
// not be there, nor be right; nor when the env file does.
func Name(opt Options) (string, error) {
	given := &settings{opt: opt, env: environment(opt.Env)}
	if err := given.setName(); err != nil || given.name != "" {
		return given.name, err
	}
	s, err := resolve(opt)
	if err != nil && s != nil && s.setName() == nil && s.name != "" {
		return s.name, nil // the files are missing
	}
	if err != nil || s.name != "" {
		return nameOf(s), err
	}
	l := &load{settings: s, byPath: map[string]*source{}}
	for _, file := range s.files {
		l.parse(file, s.dir, s.env)
	}
	l.setNameFromFiles()
	if len(l.errs) > 0 {
		return "", l.result()
	}
	return s.name, nil
}

func nameOf(s *settings) string {
	if s == nil {
		return ""
	}
	return s.name
}

// prepare resolves the options and parses the files.
func prepare(opt Options) (*load, error) {
	s, err := resolve(opt)
	if err != nil {
		return nil, err
	}
	l := &load{settings: s, byPath: map[string]*source{}, bad: map[*yaml.Node]bool{}, vars: map[string]Variable{}}
	for _, file := range s.files {
		l.parse(file, s.dir, s.env)
	}
	l.setNameFromFiles()
	l.env["COMPOSE_PROJECT_NAME"] = s.name
	l.follow()
	return l, nil
}

// setNameFromFiles settles the name: the last file that says one, else the directory's.
func (l *load) setNameFromFiles() {
	if l.name != "" {
		return
	}
	for _, src := range l.sources {
		for _, doc := range src.docs {
			n := child(doc, "name")
			if n == nil || n.Kind != yaml.ScalarNode || n.Value == "" {
				continue
			}
			text := n.Value
			if v, err := template.SubstituteWithOptions(text, (&variables{src: src}).lookup, template.WithoutLogging); err == nil {
				text = v
			}
			if l.name = normalizeName(text); l.name == "" {
				l.errs = append(l.errs, &Error{File: src.file, Line: n.Line, Path: "name", Msg: fmt.Sprintf("%q has no letter or digit that a project name can have", text)})
				l.name = "invalid"
			}
		}
	}
	if l.name == "" {
		l.name = normalizeName(filepath.Base(l.dir))
	}
	if l.name == "" && len(l.errs) > 0 {
		l.name = "unknown" // a file that cannot be read would have told
	}
	if l.name == "" {
		l.errs = append(l.errs, &Error{File: l.dir, Msg: "the directory's name makes no project name; give one with -p"})
	}
}

// model runs compose-go. When it refuses the files, or check did, a second
// round without what is wrong finds problems that would otherwise show one at a time.
func (l *load) model(ctx context.Context) *types.Project {
	if len(l.errs) == 0 {
		p, err := l.compose(ctx, nil)
		if err == nil {
			return p
		}
		l.blame(ctx, err)
	}
	for range 2 {
		if l.endless || l.wholeEntriesBad() {
			return nil
		}
		p, err := l.compose(ctx, l.pruned())
		if err == nil {
			return p
		}
		if known := len(l.errs); l.blame(ctx, nil) == known {
			return nil // a consequence of what is already known
		}
	}
	return nil
}

// compose runs compose-go over the main files, or over replaced content of
// them. Its own schema check and consistency check are left out: check,
// translate and stack.Validate find the same, with positions, and all of it.
func (l *load) compose(ctx context.Context, content map[string][]byte) (p *types.Project, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("compose-go: %v: %s", r, firstFrame(debug.Stack()))
		}
	}()
	details := types.ConfigDetails{WorkingDir: l.dir, Environment: types.Mapping(l.env).Clone()}
	for _, src := range l.sources[:len(l.files)] {
		data := src.content
		if replaced, ok := content[src.abs]; ok {
			data = replaced
		}
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: src.abs, Content: data})
	}
	return loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.SetProjectName(l.name, true)
		o.Profiles = l.profiles
		o.SkipValidation = true
		o.SkipConsistencyCheck = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.SkipInterpolation = l.opt.NoInterpolate
		casts := o.Interpolate.TypeCastMapping
		if !l.casts && len(l.errs) == 0 { // finding the cast of each value takes a quarter of a load
			casts = map[tree.Path]interpolation.Cast{}
		}
		o.Interpolate = &interpolation.Options{
			Substitute: func(text string, mapping template.Mapping) (string, error) {
				return template.SubstituteWithOptions(text, mapping, template.WithoutLogging)
			},
			LookupValue:     details.LookupEnv,
			TypeCastMapping: casts,
		}
	})
}

// firstFrame is the place of a panic, below the machinery of panics.
func firstFrame(trace []byte) string {
	for line := range strings.SplitSeq(string(trace), "\n") {
		if i := strings.Index(line, "compose-go"); i >= 0 && strings.Contains(line, ".go:") {
			return strings.TrimSpace(line[i:])
		}
	}
	return ""
}

// result sorts the errors by file and line and drops repeats.
func (l *load) result() error {
	if len(l.errs) == 0 {
		return nil
	}
	order := map[string]int{}
	for i, src := range l.sources {
		order[src.file] = i
	}
	slices.SortStableFunc(l.errs, func(a, b *Error) int {
		if order[a.File] != order[b.File] {
			return order[a.File] - order[b.File]
		}
		return a.Line - b.Line
	})
	return slices.CompactFunc(l.errs, func(a, b *Error) bool { return *a == *b })
}

func (l *load) variables() []Variable {
	out := make([]Variable, 0, len(l.vars))
	for _, name := range sortedKeys(l.vars) {
		out = append(out, l.vars[name])
	}
	return out
}

func (l *load) profilesOf(p *types.Project) []string {
	seen := map[string]bool{}
	for _, svc := range p.AllServices() {
		for _, profile := range svc.Profiles {
			seen[profile] = true
		}
	}
	return sortedKeys(seen)
}

func environ(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, key := range sortedKeys(env) {
		out = append(out, key+"="+env[key])
	}
	return out
}
