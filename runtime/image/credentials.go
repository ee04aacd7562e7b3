package image

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"sync"

	"github.com/docker/cli/cli/config"
)

// hubKey is docker.io in config.json, for historical reasons.
const hubKey = "https://index.docker.io/v1/"

// credentials reads a Docker config.json, and asks the helpers that it names.
type credentials struct {
	path string // "": where docker has it
	log  *slog.Logger

	mu   sync.Mutex
	user string // last one handed out, for error messages; guarded by mu
	err  error  // why there were none; guarded by mu
}

// get returns user and password for a registry's host, or an empty user and a
// token; all empty when there are none. A broken helper does not stop a pull
// that may need no credentials: the reason is kept for when it does.
func (c *credentials) get(host string) (user, secret string, _ error) {
	user, secret, err := c.read(host)
	if err != nil {
		c.log.Warn("registry credentials", "host", host, "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.err = user, err
	return user, secret, nil
}

func (c *credentials) read(host string) (user, secret string, _ error) {
	path := c.path
	if path == "" {
		dir := os.Getenv("DOCKER_CONFIG")
		if dir == "" {
			home := homeDir()
			if home == "" {
				return "", "", nil // an account without a home has no logins
			}
			dir = filepath.Join(home, ".docker")
		}
		path = filepath.Join(dir, "config.json")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	cf, err := config.LoadFromReader(f)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	key := host
	if host == hubHost || host == hubName {
		key = hubKey
	}
	auth, err := cf.GetAuthConfig(key)
	if err != nil {
		return "", "", fmt.Errorf("%s: credentials of %s: %w", path, host, err)
	}
	return split(auth.Username, auth.Password, auth.IdentityToken)
}

// homeDir is $HOME, or the account's where a service has none in its environment.
func homeDir() string {
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// split puts credentials into the form the authorizer wants: a token has no user.
func split(user, password, identityToken string) (string, string, error) {
	if identityToken != "" {
		return "", identityToken, nil
	}
	return user, password, nil
}

// state returns the user last handed out and why there was none.
func (c *credentials) state() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user, c.err
}
