package logins

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"

	"github.com/dhow-project/dhow/stack"
)

// hubKey is docker.io in config.json, for historical reasons.
const hubKey = "https://index.docker.io/v1/"

// Path is where docker has its config.json: $DOCKER_CONFIG or ~/.docker. It is
// "" for an account without a home, which has no logins.
func Path() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home := homeDir()
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
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

// Get returns the login for a registry's host; ok is false when there is none,
// also when path is "" or not there.
func Get(path, host string) (a stack.RegistryAuth, ok bool, err error) {
	cf, err := load(path)
	if cf == nil || err != nil {
		return a, false, err
	}
	return get(cf, path, host)
}

func load(path string) (*configfile.ConfigFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	cf, err := config.LoadFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cf, nil
}

func get(cf *configfile.ConfigFile, path, host string) (a stack.RegistryAuth, ok bool, err error) {
	key := host
	if host == "docker.io" || host == "registry-1.docker.io" {
		key = hubKey
	}
	auth, err := cf.GetAuthConfig(key)
	if err != nil {
		return a, false, fmt.Errorf("%s: credentials of %s: %w", path, host, err)
	}
	a = stack.RegistryAuth{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken}
	return a, a.Username != "" || a.IdentityToken != "" || a.RegistryToken != "", nil
}

// For returns the logins for the registries of images, by host; helpers are
// asked side by side. The error is of those that could not be read.
func For(path string, images []string) (map[string]stack.RegistryAuth, error) {
	cf, err := load(path)
	if cf == nil || err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	out, seen := map[string]stack.RegistryAuth{}, map[string]bool{"": true}
	for _, image := range images {
		host := stack.RegistryOf(image)
		if seen[host] {
			continue
		}
		seen[host] = true
		wg.Go(func() {
			a, ok, err := get(cf, path, host)
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); ok {
				out[host] = a
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}
