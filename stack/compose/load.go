package compose

import (
	"context"
	"errors"

	"github.com/dhow-project/dhow/stack"
)

// Options say what to load.
type Options struct {
	Files       []string // -f; "-" is Stdin; empty: COMPOSE_FILE, then compose.yaml in the working directory or above
	ProjectDir  string   // --project-directory
	ProjectName string   // -p
	EnvFiles    []string // --env-file; empty: COMPOSE_ENV_FILES, then .env of the project directory
	Env         []string // process environment, KEY=VALUE
	Profiles    []string // --profile, with COMPOSE_PROFILES
	Services    []string // only these and what they need; empty: all
	WorkingDir  string   // where to look for files; empty: the process's
	Stdin       []byte   // content of the file "-"
}

// Project is a loaded stack and where it came from.
type Project struct {
	Stack stack.Stack
}

// Load reads, checks and translates the files of a stack.
func Load(ctx context.Context, opt Options) (*Project, error) {
	return nil, errors.New("compose: not built")
}
