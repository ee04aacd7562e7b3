package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/dhow-project/dhow/api/client"
)

// app is what all commands share: the terminal, the environment and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      []string

	host       string
	files      []string
	project    string
	projectDir string
	envFiles   []string
	profiles   []string
	ansi       string // "auto", "never", "always"

	nodes nodes
}

func newApp() *app {
	return &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Environ()}
}

// getenv looks a variable up in the app's environment.
func (a *app) getenv(key string) string {
	for i := len(a.env) - 1; i >= 0; i-- {
		if k, v := splitEnv(a.env[i]); k == key {
			return v
		}
	}
	return ""
}

func splitEnv(kv string) (key, value string) {
	for i := range len(kv) {
		if kv[i] == '=' {
			return kv[:i], kv[i+1:]
		}
	}
	return kv, ""
}

// address is the daemon's: --host, DHOW_HOST, or the default.
func (a *app) address() string {
	if a.host != "" {
		return a.host
	}
	if h := a.getenv("DHOW_HOST"); h != "" {
		return h
	}
	return client.DefaultHost
}

// client connects to the daemon; nothing is sent yet.
func (a *app) client() (*client.Client, error) { return client.Dial(a.address()) }

// daemonClient is client, and an error with a hint when no daemon answers.
func (a *app) daemonClient(ctx context.Context) (*client.Client, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return c, c.Ping(ctx)
}

// terminal returns the file behind f when it is a terminal.
func terminal(f any) (*os.File, bool) {
	file, ok := f.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

// input is the file of --input, or standard input when none is named.
func (a *app) input(path string) (io.ReadCloser, error) {
	if path != "" {
		return os.Open(path)
	}
	if _, tty := terminal(a.in); tty {
		return nil, usagef("standard input is a terminal: name a file with --input, or use a pipe")
	}
	return io.NopCloser(a.in), nil
}

// fancy says whether w takes colours and cursor movement.
func (a *app) fancy(w io.Writer) bool {
	switch a.ansi {
	case "never":
		return false
	case "always":
		return true
	}
	_, tty := terminal(w)
	return tty && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// width is the number of columns of the terminal behind w, or 100.
func width(w io.Writer) int {
	if f, ok := terminal(w); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 100
}
