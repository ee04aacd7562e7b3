package compose

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// Names of the files that are looked for, in order of preference. The list is Compose's own.
var (
	defaultFiles    = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
	defaultOverride = []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
)

// settings are what Options, environment and file system say together.
type settings struct {
	opt      Options
	cwd      string            // absolute
	dir      string            // project directory, absolute
	files    []string          // absolute; "-" is Stdin
	env      map[string]string // process environment over env files
	envFiles []string          // that were read, absolute
	name     string            // from -p or COMPOSE_PROJECT_NAME; "" when the files or the directory decide
	profiles []string
}

// resolve finds the files, the project directory and the environment.
func resolve(opt Options) (*settings, error) {
	s := &settings{opt: opt, env: environment(opt.Env)}
	cwd, err := filepath.Abs(opt.WorkingDir)
	if err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	s.cwd = cwd
	// COMPOSE_FILE and the like may stand in the env file, which lies in the
	// project directory, which depends on the files: hence two rounds.
	s.files = absolute(cwd, opt.Files)
	s.dir = s.projectDir()
	if err := s.readEnv(); err != nil {
		return nil, err
	}
	if err := s.findFiles(); err != nil {
		return s, err // what is known may be enough for Name
	}
	if dir := s.projectDir(); dir != s.dir {
		s.dir = dir
		if err := s.readEnv(); err != nil {
			return nil, err
		}
	}
	s.profiles = opt.Profiles
	if len(s.profiles) == 0 {
		s.profiles = fields(s.env["COMPOSE_PROFILES"], ",")
	}
	return s, s.setName()
}

// environment is a process environment by key.
func environment(list []string) map[string]string {
	env := map[string]string{}
	for _, kv := range list {
		if key, value, ok := strings.Cut(kv, "="); ok && key != "" {
			env[key] = value
		}
	}
	return env
}

// projectDir is --project-directory, else where the first file lies, else the working directory.
func (s *settings) projectDir() string {
	if s.opt.ProjectDir != "" {
		return join(s.cwd, s.opt.ProjectDir)
	}
	for _, f := range s.files {
		if f != "-" {
			return filepath.Dir(f)
		}
	}
	return s.cwd
}

// findFiles settles the list of files: -f, COMPOSE_FILE, or the default names
// in the working directory or the nearest directory above that has one.
func (s *settings) findFiles() error {
	if len(s.files) > 0 {
		return nil
	}
	if list := s.env["COMPOSE_FILE"]; list != "" {
		sep := s.env["COMPOSE_PATH_SEPARATOR"]
		if sep == "" {
			sep = string(os.PathListSeparator)
		}
		s.files = absolute(s.cwd, fields(list, sep))
		return nil
	}
	start := s.cwd
	if s.opt.ProjectDir != "" {
		start = s.dir
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if file := firstFile(dir, defaultFiles); file != "" {
			s.files = []string{file}
			if override := firstFile(dir, defaultOverride); override != "" {
				s.files = append(s.files, override)
			}
			return nil
		}
		if dir == filepath.Dir(dir) {
			return &Error{File: start, Msg: ErrNoFile.Error(), kind: ErrNoFile}
		}
	}
}

func firstFile(dir string, names []string) string {
	for _, name := range names {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file
		}
	}
	return ""
}

// readEnv adds what the env files say and the environment does not.
func (s *settings) readEnv() error {
	files := absolute(s.cwd, s.opt.EnvFiles)
	if len(files) == 0 {
		files = absolute(s.cwd, fields(s.env["COMPOSE_ENV_FILES"], ","))
	}
	if off, _ := strconv.ParseBool(s.env["COMPOSE_DISABLE_ENV_FILE"]); len(files) == 0 && !off {
		file := filepath.Join(s.dir, ".env")
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			files = []string{file}
		}
	}
	for _, file := range files {
		if slices.Contains(s.envFiles, file) {
			continue
		}
		vars, err := readEnvFile(file, func(key string) (string, bool) { v, ok := s.env[key]; return v, ok })
		if err != nil {
			return err
		}
		s.envFiles = append(s.envFiles, file)
		process := s.env
		s.env = vars
		maps.Copy(s.env, process)
	}
	return nil
}

// readEnvFile parses a .env file; lookup serves the variables it mentions.
func readEnvFile(file string, lookup func(string) (string, bool)) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, &Error{File: file, Msg: reason(err)}
	}
	vars, err := dotenv.ParseWithLookup(bytes.NewReader(data), lookup)
	if err != nil {
		line, msg := lineOf(err.Error())
		return nil, &Error{File: file, Line: line, Msg: msg}
	}
	return vars, nil
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

func (s *settings) setName() error {
	s.name = s.opt.ProjectName
	if s.name == "" {
		s.name = s.env["COMPOSE_PROJECT_NAME"]
	}
	if s.name != "" && !validName.MatchString(s.name) {
		return &Error{Msg: fmt.Sprintf("project name %q: only lower case letters, digits, - and _ are allowed, and it starts with a letter or a digit", s.name)}
	}
	return nil
}

// normalizeName makes a project name of any text, as Compose does; "" when nothing is left.
func normalizeName(text string) string {
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, strings.ToLower(text))
	return strings.TrimLeft(kept, "_-")
}

// read returns the content of a file, or of Stdin for "-".
func (s *settings) read(file string) ([]byte, error) {
	if file == "-" {
		if s.opt.Stdin == nil {
			return io.ReadAll(os.Stdin)
		}
		return s.opt.Stdin, nil
	}
	return os.ReadFile(file)
}

// display is how errors name a file: relative to the working directory when it lies below it.
func (s *settings) display(file string) string {
	if rel, err := filepath.Rel(s.cwd, file); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return file
}

func absolute(dir string, files []string) []string {
	out := make([]string, 0, len(files))
	for _, f := range files {
		if f != "-" {
			f = join(dir, f)
		}
		out = append(out, f)
	}
	return out
}

// join is path itself when it is absolute.
func join(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func fields(list, sep string) []string {
	var out []string
	for f := range strings.SplitSeq(list, sep) {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// reason is the error without the path that the caller names anyway.
func reason(err error) string {
	var pathErr *os.PathError
	if asErr(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
